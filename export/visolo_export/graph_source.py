"""The ONNX graphs of a network in any precision, each exported once, when it is first needed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import onnx

from visolo_core.config import InferenceConfig
from visolo_core.contract import GRAPHS, GraphName, contract
from visolo_core.errors import VisoloError
from visolo_core.nn.checkpoint import Checkpoint
from visolo_core.pixels import PixelGraph
from visolo_export.calibration import MaskFeeds, record_feeds
from visolo_export.formats import QUANTISED, CalibrationOptions
from visolo_export.graph_export import export_graphs, exported_modules
from visolo_export.onnx_export import write_onnx
from visolo_export.pixel_export import write_pixel_graphs
from visolo_export.precision import nodes_of, to_bf16, to_fp16
from visolo_export.quantisation import (
    Feeds,
    Ranges,
    calibrate,
    most_sensitive,
    sensitivities,
    to_int8,
)
from visolo_export.tensorrt_quantisation import Quantised, quantise
from visolo_runtime.bundle import Calibration, Precision
from visolo_runtime.engines.engine import Engines
from visolo_runtime.engines.onnxruntime.backend import OnnxRuntimeBackend
from visolo_runtime.session.loading import Model

_MEASURED_FRAMES = 4  # frames on which the sensitivity of every layer is measured
_REDUCED: tuple[GraphName, ...] = ("frame", "mask", "memory")  # decode counts pixels, in float32
_MEASURED: tuple[GraphName, ...] = ("frame", "mask")  # the memory graph has one convolution


class GraphSource:
    """Graphs of one network.

    Args:
        checkpoint: the network with its labels.
        inference: with the number of memory slots.
        folder: an existing, empty folder for the graphs.
        calibration: how ranges are calibrated; required for int8 and fp8.
        report: called with what is being exported.
        float32_modules: modules of the network that stay float32 in every precision.
        batch: number of streams that the graphs can process together.

    Raises:
        VisoloError: if the network lacks one of ``float32_modules``.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        inference: InferenceConfig,
        folder: Path,
        calibration: CalibrationOptions | None,
        report: Callable[[str], None],
        float32_modules: Sequence[str] = (),
        batch: int = 1,
    ) -> None:
        self.model = checkpoint.build()
        known = {name for name, _ in self.model.named_modules()}
        for module in float32_modules:
            if module not in known:
                raise VisoloError(
                    f"the network has no module '{module}': name one such as backbone.layer1; "
                    "'visolo verify --bisect' reports the first layer that differs"
                )
        self.float32_modules = list(float32_modules)
        self.slots = max(1, inference.memory_slots)
        self.contract = contract(self.model.config, self.slots, batch)
        self.calibration: Calibration | None = None
        """How ranges were calibrated; None until they are needed."""
        self._labels, self._inference = checkpoint.header.labels, inference
        self._folder, self._options, self._report = folder, calibration, report
        self._graphs: dict[str, dict[GraphName, Path]] = {}
        self._pixels: dict[PixelGraph, Path] = {}
        self._ranges: dict[GraphName, Ranges] = {}
        self._sensitive: list[tuple[GraphName, str]] = []

    def onnx(self, precision: Precision, engines: bool = False) -> dict[GraphName, Path]:
        """The graphs in a precision.

        Args:
            precision: of the graphs; bf16 and fp8 are for engines only.
            engines: as TensorRT builds engines from them; int8 graphs for CPUs are others.
        """
        key = f"{precision}-engines" if precision == "int8" and engines else precision
        if key not in self._graphs:
            place = self._folder / key
            place.mkdir()
            self._graphs[key] = self._make(precision, engines, place)
        return self._graphs[key]

    def pixels(self) -> dict[PixelGraph, Path]:
        """The graphs that resize frames, in float32."""
        if not self._pixels:
            place = self._folder / "pixels"
            place.mkdir()
            self._report("graphs that resize frames")
            self._pixels = write_pixel_graphs(self.model.config.input_size, place)
        return self._pixels

    def _make(self, precision: Precision, engines: bool, place: Path) -> dict[GraphName, Path]:
        if precision == "fp32":
            names = export_graphs(
                write_onnx, ".onnx", exported_modules(self.model), self.contract, place,
                lambda graph: self._report(f"{graph} graph"),
            )  # fmt: skip
            return {graph: place / name for graph, name in names.items()}
        plain = self.onnx("fp32")
        files = {graph: place / f"{graph}.onnx" for graph in GRAPHS}
        if precision in QUANTISED:
            self._calibrate()
        for graph in GRAPHS:
            self._report(f"{graph} graph in {precision}")
            if graph in _REDUCED:
                self._reduce(graph, plain[graph], files[graph], precision, engines)
            else:
                shutil.copyfile(plain[graph], files[graph])
        return files

    def _reduce(
        self, graph: GraphName, plain: Path, target: Path, precision: Precision, engines: bool
    ) -> None:
        """Write a graph in another precision than float32."""
        float32 = self.float32_modules
        if precision == "fp16":
            to_fp16(plain, target, float32)
        elif precision == "bf16":
            to_bf16(plain, target, float32)
        else:
            keep = [name for place, name in self._sensitive if place == graph]
            ranges = self._ranges[graph]
            if precision == "fp8" or engines:
                kind: Quantised = "fp8" if precision == "fp8" else "int8"
                quantise(plain, target, kind, ranges, keep, float32)
            else:
                to_int8(plain, target, ranges, [*keep, *nodes_of(onnx.load(plain).graph, float32)])

    def _calibrate(self) -> None:
        """Measure the ranges and choose the most sensitive layers to be left out; once."""
        if self._ranges:
            return
        options = self._options
        assert options is not None
        self._report("frames for calibration")
        plain = self.onnx("fp32")
        engines = Engines.compile(OnnxRuntimeBackend(plain), self.contract)
        model = Model(self.model.config, self._inference, self._labels, engines)
        recorded = record_feeds(model, options.source, options.frames)
        frames = recorded["frame"]
        feeds: dict[GraphName, Feeds] = {**recorded, "mask": MaskFeeds(plain["frame"], frames)}
        for graph in _REDUCED:
            self._ranges[graph] = calibrate(plain[graph], feeds[graph])
        if options.keep_share:
            few = frames[:: max(1, len(frames) // _MEASURED_FRAMES)][:_MEASURED_FRAMES]
            feeds = {"frame": few, "mask": list(MaskFeeds(plain["frame"], few))}
            errors = {
                (graph, layer): error
                for graph in _MEASURED
                for layer, error in self._sensitivities(plain[graph], graph, feeds[graph]).items()
            }
            self._sensitive = most_sensitive(errors, options.keep_share)
        self.calibration = Calibration(
            source=Path(options.source).name,
            frames=len(frames),
            float32_layers=[f"{graph}.{layer}" for graph, layer in self._sensitive],
        )

    def _sensitivities(self, file: Path, graph: GraphName, feeds: Feeds) -> dict[str, float]:
        return sensitivities(
            file,
            self._ranges[graph],
            feeds,
            self._folder,
            lambda done, total: self._report(
                f"sensitivity of layer {done} of {total} of the {graph} graph"
            ),
        )
