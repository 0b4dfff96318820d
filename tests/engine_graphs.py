"""The shipped network's graphs in every precision that engines have."""

from __future__ import annotations

from pathlib import Path

from visolo_core.contract import GRAPHS, GraphName
from visolo_export.calibration import MaskFeeds, record_feeds
from visolo_export.precision import convolutions, to_bf16, to_fp16
from visolo_export.quantisation import Feeds, Ranges, calibrate
from visolo_export.tensorrt_quantisation import quantise
from visolo_runtime.bundle import Precision
from visolo_runtime.models.shipped import shipped_model
from visolo_runtime.session.loading import load


class EngineGraphs:
    """Makes graphs when they are asked for, once.

    Args:
        folder: for the graphs.
        frames: a folder of frames to calibrate on.
    """

    def __init__(self, folder: Path, frames: Path) -> None:
        self._folder, self._frames = folder, frames
        plain = {graph: shipped_model() / f"{graph}.onnx" for graph in GRAPHS}
        self._made: dict[Precision, dict[GraphName, Path]] = {"fp32": plain}
        self._ranges: dict[GraphName, Ranges] = {}

    def files(self, precision: Precision) -> dict[GraphName, Path]:
        """The graphs in a precision; those without convolutions are the float32 ones."""
        plain = self._made["fp32"]
        if precision not in self._made:
            self._made[precision] = dict(plain)
            for graph, source in plain.items():
                if convolutions(source):
                    target = self._folder / f"{graph}-{precision}.onnx"
                    self._convert(graph, precision, target)
                    self._made[precision][graph] = target
        return self._made[precision]

    def _convert(self, graph: GraphName, precision: Precision, target: Path) -> None:
        source = self._made["fp32"][graph]
        if precision == "fp16":
            to_fp16(source, target)
        elif precision == "bf16":
            to_bf16(source, target)
        elif precision in ("int8", "fp8"):
            quantise(source, target, precision, self.ranges(graph))

    def ranges(self, graph: GraphName) -> Ranges:
        """The ranges of a graph's tensors."""
        if not self._ranges:
            plain = self._made["fp32"]
            recorded = record_feeds(load(shipped_model(), "onnxruntime"), str(self._frames), 10)
            masks = MaskFeeds(plain["frame"], recorded["frame"])
            feeds: dict[GraphName, Feeds] = {**recorded, "mask": masks}
            for name, each in feeds.items():
                self._ranges[name] = calibrate(plain[name], each)
        return self._ranges[graph]
