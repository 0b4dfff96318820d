"""Size, build time and errors of every form of a model, as the table in docs/formats.md.

    python benchmarks/format_table.py WEIGHTS --calibrate SOURCE [--source CLIP] [--data GT.json]

Forms that cannot run here have sizes and build times alone. With ``--data``, AP of each as well.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from visolo_core.checkpoint import load_checkpoint
from visolo_core.config import InferenceConfig
from visolo_core.errors import NotHereError, VisoloError
from visolo_export.bundle_writer import write_bundle
from visolo_export.formats import CalibrationOptions, EngineOptions
from visolo_export.verification import TOLERANCES, Frames, verify
from visolo_runtime.bundle import Bundle, Format, Precision
from visolo_runtime.model import Model, load
from visolo_runtime.runner import RunOptions, run
from visolo_runtime.sample_clip import sample_frames
from visolo_runtime.sources import Skipped, open_source
from visolo_train.annotations import read_annotations
from visolo_train.evaluation import TrackCollector, score_tracks

FORMS: list[tuple[Format, Precision, str]] = [
    ("onnx", "fp32", "onnxruntime"),
    ("onnx", "fp16", "onnxruntime"),
    ("onnx", "int8", "onnxruntime"),
    ("openvino", "fp32", "openvino"),
    ("openvino", "fp16", "openvino"),
    ("openvino", "int8", "openvino"),
    ("torchscript", "fp32", "torchscript"),
    ("pt2", "fp32", "pt2"),
    ("tensorrt-rtx", "fp32", "tensorrt-rtx"),
    ("tensorrt-rtx", "fp16", "tensorrt-rtx"),
    ("tensorrt-rtx", "int8", "tensorrt-rtx"),
]


def row(
    weights: Path, form: tuple[Format, Precision, str], options: Any, clip: Frames, truth: Model
) -> list[str]:
    """Cells of a form."""
    format, precision, backend = form
    with tempfile.TemporaryDirectory() as folder:
        bundle, begin = Path(folder) / "model.visolo", time.perf_counter()
        write_bundle(
            load_checkpoint(weights),
            bundle,
            InferenceConfig(),
            formats=(format,),
            precisions=(precision,),
            engine_options=EngineOptions(("sm86", "sm89") if format == "tensorrt-rtx" else ()),
            calibration=CalibrationOptions(options.calibrate, keep_share=options.keep),
        )
        seconds = time.perf_counter() - begin
        size = sum(entry.size for entry in Bundle(bundle).manifest.files.values())
        cells = [f"{format} {precision}", f"{size / 1e6:.1f}", f"{seconds:.0f}"]
        try:
            model = load(bundle, backend)
        except NotHereError:
            return [*cells, "no GPU here", "", "", "", ""]
        result = verify(truth, model, clip, TOLERANCES[precision])
        worst = max(error.relative for error in result.tensors["frame"].values())
        tracks = result.tracks
        same = "same" if tracks.same_tracks else "not all"
        iou = "-" if tracks.min_mask_iou is None else f"{tracks.min_mask_iou:.4f}"
        score = tracks.max_score_difference
        cells += [f"{worst:.1e}", same, iou, "-" if score is None else f"{score:.1e}"]
        return [*cells, average_precision(model, options.data)]


def average_precision(model: Model, data: Path | None) -> str:
    """AP in percent; nothing without a data set."""
    if data is None:
        return ""
    annotations, collector = read_annotations(data), TrackCollector(model.labels)
    run(model, open_source(str(data)), [collector], RunOptions(record=True))
    return f"{100 * score_tracks(annotations, collector.tracks).figures['AP']:.1f}"


def main() -> None:
    """Print the table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--calibrate", required=True)
    parser.add_argument("--keep", type=float, default=0.1)
    parser.add_argument("--source", help="clip that errors are measured on")
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--data", type=Path)
    options = parser.parse_args()
    if options.source:
        found = open_source(options.source)[0].frames()
        clip = [frame for frame in found if not isinstance(frame, Skipped)][: options.frames]
    else:
        clip = list(sample_frames(options.frames))
    truth = load(options.weights, "torch")
    heads = ["form", "MB", "seconds", "relative error", "tracks", "mask IoU", "score", "AP"]
    print("| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|")
    for form in FORMS:
        try:
            cells = row(options.weights, form, options, clip, truth)
        except VisoloError as error:
            cells = [f"{form[0]} {form[1]}", str(error), *[""] * 6]
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
