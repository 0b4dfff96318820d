"""Exports weights as a bundle: the directory appears complete or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from visolo_core import __version__
from visolo_core.config import InferenceConfig
from visolo_core.contract import GRAPHS, GraphName
from visolo_core.errors import VisoloError
from visolo_core.files import replaced_folder
from visolo_core.nn.checkpoint import Checkpoint
from visolo_core.pixels import PixelGraph
from visolo_export.calibration import check_frames
from visolo_export.formats import QUANTISED, CalibrationOptions, EngineOptions
from visolo_export.graph_export import export_graphs, exported_modules
from visolo_export.graph_source import GraphSource
from visolo_export.onnx_export import OPSET
from visolo_export.openvino_export import check_openvino, export_openvino
from visolo_export.pixel_export import build_pixel_engines
from visolo_export.tensorrt_build import TensorRt, usual_lengths
from visolo_export.torch_formats import (
    AOTINDUCTOR_SUFFIX,
    WRITERS,
    aotinductor_writer,
    check_compiler,
)
from visolo_runtime.bundle import (
    FORMAT_VERSION,
    Format,
    GraphFiles,
    Manifest,
    Precision,
    file_entry,
    is_bundle,
)
from visolo_runtime.engines.device_name import DeviceName
from visolo_runtime.engines.tensorrt.library import LIBRARIES, Library
from visolo_runtime.engines.torch.placing import compiled_for, modules_on, torch_device


def write_bundle(
    checkpoint: Checkpoint,
    folder: Path,
    inference: InferenceConfig,
    weights_sha256: str | None = None,
    report: Callable[[str], None] = lambda _: None,
    formats: Sequence[Format] = ("onnx",),
    precisions: Sequence[Precision] = ("fp32",),
    engine_options: EngineOptions = EngineOptions(),  # noqa: B008 - it is frozen
    calibration: CalibrationOptions | None = None,
    float32_modules: Sequence[str] = (),
    batch: int = 1,
    device: DeviceName = DeviceName("cpu"),  # noqa: B008 - it is frozen
) -> Manifest:
    """Export a checkpoint as a bundle.

    Args:
        checkpoint: weights with configuration and labels.
        folder: the bundle to write; an older bundle there is replaced once the new one is complete.
        inference: thresholds, and the number of memory slots of the graphs.
        weights_sha256: checksum of the checkpoint's file, for the manifest.
        report: called with what is being exported.
        formats: of the graphs, at least one.
        precisions: every format is exported in each of them; a run uses the first by default.
        engine_options: how TensorRT engines are built.
        calibration: how ranges are calibrated; required for int8 and fp8.
        float32_modules: modules of the network that stay float32 in every precision.
        batch: number of streams that the frame and memory graphs can process together.
        device: that AOTInductor compiles for; other formats do not depend on it.

    Raises:
        VisoloError: if the folder cannot be written, or exists and is not a bundle; if a format's
            library is missing or fails; if int8 or fp8 is requested without calibration, or its
            frames are too few.
    """
    if folder.exists() and not is_bundle(folder):
        raise VisoloError(f"'{folder}' exists and is not a bundle: name a new directory")
    quantised = [each for each in precisions if each in QUANTISED]
    if quantised and calibration is None:
        raise VisoloError(
            f"{quantised[0]} needs frames to calibrate on: name them with --calibrate"
        )
    place = torch_device(device)
    for format in formats:  # fail before minutes of exporting, not after
        if format == "aotinductor":
            check_compiler()
        elif format == "openvino":
            check_openvino()
        elif format in LIBRARIES:
            TensorRt(format).check(precisions, engine_options.targets)
    if quantised and calibration is not None:
        check_frames(calibration.source, calibration.frames)
    with (
        replaced_folder(folder) as work,
        tempfile.TemporaryDirectory(prefix="visolo-") as scratch,
    ):
        source = GraphSource(
            checkpoint, inference, Path(scratch), calibration, report, float32_modules, batch
        )
        writer = _Writer(source, work, engine_options, report, batch, place)
        graphs = [
            writer.graphs(format, precision)
            for precision in dict.fromkeys(precisions)
            for format in dict.fromkeys(formats)
        ]
        names = [name for each in graphs for name in each.all_files]
        manifest = Manifest(
            format_version=FORMAT_VERSION,
            model=source.model.config,
            inference=inference,
            labels=checkpoint.header.labels,
            slots=source.slots,
            batch=batch,
            contract=source.contract,
            graphs=graphs,
            files={name: file_entry(work / name) for name in names},
            producer={"visolo": __version__, **_versions(formats)},
            weights_sha256=weights_sha256,
            calibration=source.calibration,
            float32_modules=list(float32_modules),
        )
        manifest.write(work)
    return manifest


class _Writer:
    """Writes graphs into a bundle's folder."""

    def __init__(
        self,
        source: GraphSource,
        folder: Path,
        engine_options: EngineOptions,
        report: Callable[[str], None],
        batch: int,
        device: torch.device,
    ) -> None:
        self._source, self._folder, self._batch = source, folder, batch
        self._device = device
        self._engine_options, self._report = engine_options, report

    def graphs(self, format: Format, precision: Precision) -> GraphFiles:
        """Write the graphs in a format: float32 ONNX to the bundle's root, others to folders."""
        name = format if precision == "fp32" else f"{format}-{precision}"
        place = self._folder if name == "onnx" else self._folder / name
        place.mkdir(exist_ok=True)
        if format in LIBRARIES:
            return self._engines(format, precision, place)
        extra: list[str] = []
        pixels: dict[PixelGraph, str] = {}
        opset = None
        built_for: dict[str, Any] = {}
        if format == "onnx":
            opset = OPSET
            onnx_files = self._source.onnx(precision)
            files = {graph: f"{graph}.onnx" for graph in GRAPHS}
            for graph, path in onnx_files.items():
                shutil.copyfile(path, place / files[graph])
            for pixel_graph, path in self._source.pixels().items():
                pixels[pixel_graph] = path.name
                shutil.copyfile(path, place / path.name)
        elif format == "openvino":
            onnx_files = self._source.onnx(precision)
            files = export_openvino(onnx_files, place, self._reporting(name))
            extra = [f"{name}/{Path(each).with_suffix('.bin')}" for each in files.values()]
        elif format == "aotinductor":
            files = self._compiled(precision, place)
            built_for = {"library": torch.__version__, "targets": [compiled_for(self._device)]}
        else:
            write, suffix = WRITERS[format]
            modules = exported_modules(self._source.model)
            report = self._reporting(name)
            files = export_graphs(write, suffix, modules, self._source.contract, place, report)
        if place != self._folder:
            files = {graph: f"{name}/{file}" for graph, file in files.items()}
            pixels = {graph: f"{name}/{file}" for graph, file in pixels.items()}
        return GraphFiles(
            format=format,
            precision=precision,
            opset=opset,
            files=files,
            pixels=pixels,
            extra=extra,
            **built_for,
        )

    def _compiled(self, precision: Precision, place: Path) -> dict[GraphName, str]:
        """Compile the graphs with AOTInductor; returns the file name of each."""
        source, device = self._source, self._device
        modules = modules_on(source.model, device, precision == "fp16", source.float32_modules)
        report = self._reporting(place.name)
        return export_graphs(
            aotinductor_writer(device), AOTINDUCTOR_SUFFIX, modules, source.contract, place, report
        )

    def _engines(self, format: Library, precision: Precision, place: Path) -> GraphFiles:
        """Build TensorRT engines, each with a JSON file beside it that describes it."""
        library, options = TensorRt(format), self._engine_options
        onnx_files = self._source.onnx(precision, engines=True)
        report = self._reporting(place.name)
        lengths = usual_lengths(self._source.model.config.cells, self._batch)
        files: dict[GraphName, str] = {}
        for graph in GRAPHS:
            report(graph)
            spec = self._source.contract[graph]
            engine = library.build(
                onnx_files[graph], spec, lengths, options.targets, options.timing_cache
            )
            engine.write(place, graph)
            files[graph] = f"{place.name}/{graph}.engine"
        size = self._source.model.config.input_size
        pixels = self._source.pixels()
        build_pixel_engines(library, pixels, size, place, options.targets, options.timing_cache)
        return GraphFiles(
            format=format,
            precision=precision,
            files=files,
            pixels={graph: f"{place.name}/{graph}.engine" for graph in pixels},
            extra=[f"{place.name}/{graph}.json" for graph in (*GRAPHS, *pixels)],
            library=library.version,
            targets=list(engine.targets),
        )

    def _reporting(self, form: str) -> Callable[[str], None]:
        return lambda graph: self._report(f"{graph} graph as {form}")


def _versions(formats: Sequence[Format]) -> dict[str, str]:
    """Versions of the packages that wrote the bundle."""
    packages = ["torch", "torchvision", "onnx", "onnxscript"]
    if "openvino" in formats:
        packages.append("openvino")
    return {name: metadata.version(name) for name in packages}
