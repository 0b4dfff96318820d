"""Prints what engines cost and compute in each precision, as the table in docs/formats.md.

    python benchmarks/engine_table.py WEIGHTS --calibrate SOURCE [--target sm89] [--data GT.json]

Engines are built by TensorRT-RTX, which needs no GPU. The bytes are those of all inputs, constants
and outputs of the layers that its builder lists, which a GPU with small caches reads and writes for
a frame with instances (without decoding, which is float32 in every precision). The errors are those
of the same graphs in ONNX Runtime on this machine, which computes bfloat16 in float32 and rounds.
"""

from __future__ import annotations

import argparse
import tempfile
from itertools import islice
from pathlib import Path
from typing import Any, get_args

import onnxruntime

from benchmarks.bfloat16 import rounded_to_bfloat16
from benchmarks.format_table import average_precision
from visolo_core.config import InferenceConfig
from visolo_core.contract import GRAPHS, GraphName
from visolo_core.nn.checkpoint import Checkpoint, load_checkpoint
from visolo_export.engine_layers import EngineLayer
from visolo_export.formats import CalibrationOptions
from visolo_export.graph_source import GraphSource
from visolo_export.tensorrt_build import TensorRt, usual_lengths
from visolo_export.verification import Frames, Tolerance, verify
from visolo_runtime.bundle import Precision
from visolo_runtime.engines.engine import Engines
from visolo_runtime.engines.onnxruntime.backend import OnnxRuntimeBackend
from visolo_runtime.session.loading import Model, load
from visolo_runtime.sources.opening import open_source
from visolo_runtime.video.sample_clip import sample_frames

HEADS = (
    "precision", "MB of engines", "kernels", "MB moved", "relative error", "tracks", "mask IoU",
    "score", "AP",
)  # fmt: skip
_NO_KERNEL = ("signal", "wait")  # between the streams of an engine


class AsWritten(onnxruntime.SessionOptions):  # type: ignore[misc]
    """Graphs run as they are written: ONNX Runtime 1.32 rewrites fp8 graphs into wrong ones."""

    def __init__(self) -> None:
        super().__init__()
        self.add_session_config_entry("session.disable_quant_qdq", "1")


def built(
    source: GraphSource, precision: Precision, target: str
) -> tuple[float, dict[GraphName, tuple[EngineLayer, ...]]]:
    """Megabytes of all engines, and their layers by graph."""
    library, lengths = TensorRt("tensorrt-rtx"), usual_lengths(source.model.config.cells, 1)
    files, size, layers = source.onnx(precision, engines=True), 0, {}
    for graph in GRAPHS:
        engine = library.build(files[graph], source.contract[graph], lengths, [target])
        size += len(engine.plan)
        layers[graph] = engine.layers
    return size / 1e6, layers


def computed(
    source: GraphSource, checkpoint: Checkpoint, precision: Precision, folder: Path
) -> Model:
    """A model that computes with the graphs of engines, on the CPU."""
    files = dict(source.onnx(precision, engines=True))
    if precision == "bf16":
        files = {
            graph: rounded_to_bfloat16(file, folder / file.name) for graph, file in files.items()
        }
    engines = Engines.compile(OnnxRuntimeBackend(files), source.contract)
    return Model(source.model.config, InferenceConfig(), checkpoint.header.labels, engines)


def engine_row(
    source: GraphSource, checkpoint: Checkpoint, precision: Precision, truth: Model, clip: Frames,
    options: Any,
) -> list[str]:  # fmt: skip
    """Cells of a precision's row."""
    size, layers = built(source, precision, options.target)
    working = [
        layer
        for graph in GRAPHS
        if graph != "decode"
        for layer in layers[graph]
        if layer.kind not in _NO_KERNEL
    ]
    moved = sum(layer.moved_bytes for layer in working)
    cells = [precision, f"{size:.1f}", str(len(working)), f"{moved / 1e6:.1f}"]
    if options.costs_only:
        return cells
    with tempfile.TemporaryDirectory() as folder:
        model = computed(source, checkpoint, precision, Path(folder))
        result = verify(truth, model, clip, Tolerance())
        errors = [each for graph, each in result.tensors.items() if graph != "decode"]
        largest = max(error.relative for each in errors for error in each.values())
        tracks = result.tracks
        iou, score = tracks.min_mask_iou, tracks.max_score_difference
        return [
            *cells,
            f"{largest:.1e}",
            "same" if tracks.same_tracks else "not all",
            "-" if iou is None else f"{iou:.4f}",
            "-" if score is None else f"{score:.1e}",
            average_precision(model, options.data),
        ]


def main() -> None:
    """Print the table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--calibrate", required=True)
    parser.add_argument("--keep", type=float, default=0.1)
    parser.add_argument("--float32", nargs="*", default=[], help="modules")
    parser.add_argument("--target", default="sm89", help="a GPU that has every precision")
    parser.add_argument("--precisions", nargs="*", default=get_args(Precision))
    parser.add_argument("--source", help="clip that errors are measured on")
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--costs-only", action="store_true", help="compute nothing")
    options = parser.parse_args()
    clip: Frames = list(sample_frames(options.frames))
    if options.source:
        clip = list(islice(open_source(options.source)[0].pictures(), options.frames))
    onnxruntime.SessionOptions = AsWritten
    checkpoint = load_checkpoint(options.weights)
    truth = load(options.weights, "torch")
    heads = HEADS[:4] if options.costs_only else HEADS
    print("| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|")
    with tempfile.TemporaryDirectory() as folder:
        calibration = CalibrationOptions(options.calibrate, keep_share=options.keep)
        source = GraphSource(
            checkpoint, InferenceConfig(), Path(folder), calibration, lambda _: None,
            options.float32,
        )  # fmt: skip
        for precision in options.precisions:
            cells = engine_row(source, checkpoint, precision, truth, clip, options)
            print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
