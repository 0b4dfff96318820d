"""Prints size, build time and errors of every form of a model that CPUs run, as the table in
docs/formats.md; ``benchmarks.engine_table`` has those of GPUs.

    python benchmarks/format_table.py WEIGHTS --calibrate SOURCE [--source CLIP] [--data GT.json]

``--data`` adds each form's AP.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from visolo_core.config import InferenceConfig
from visolo_core.errors import VisoloError
from visolo_core.nn.checkpoint import load_checkpoint
from visolo_export.bundle_writer import write_bundle
from visolo_export.formats import CalibrationOptions
from visolo_export.verification import TOLERANCES, Frames, verify
from visolo_runtime.bundle import Bundle, Format, Precision
from visolo_runtime.runner import RunOptions, run
from visolo_runtime.session.loading import Model, load
from visolo_runtime.sources.opening import open_source
from visolo_runtime.video.sample_clip import sample_frames
from visolo_train.data.annotations import read_annotations
from visolo_train.evaluation.scoring import TrackCollector, score_tracks


@dataclass(frozen=True)
class FormatRow:
    """A row of the table."""

    format: Format
    precision: Precision = "fp32"
    backend: str = ""
    every_layer: bool = False
    """whether all layers are quantised; otherwise the most sensitive stay float32"""

    @property
    def name(self) -> str:
        return f"{self.format} {self.precision}" + (", every layer" if self.every_layer else "")


FORMS = [
    FormatRow("onnx", "fp32", "onnxruntime"),
    FormatRow("onnx", "fp16", "onnxruntime"),
    FormatRow("onnx", "int8", "onnxruntime"),
    FormatRow("onnx", "int8", "onnxruntime", every_layer=True),
    FormatRow("openvino", "fp32"),
    FormatRow("openvino", "fp16"),
    FormatRow("openvino", "int8"),
    FormatRow("openvino", "int8", every_layer=True),
    FormatRow("torchscript"),
    FormatRow("pt2"),
    FormatRow("aotinductor"),
]


def row(weights: Path, form: FormatRow, options: Any, clip: Frames, truth: Model) -> list[str]:
    """Cells of a form's row."""
    format, precision = form.format, form.precision
    with tempfile.TemporaryDirectory() as folder:
        bundle, begin = Path(folder) / "model.visolo", time.perf_counter()
        write_bundle(
            load_checkpoint(weights),
            bundle,
            InferenceConfig(),
            formats=(format,),
            precisions=(precision,),
            calibration=CalibrationOptions(
                options.calibrate, keep_share=0.0 if form.every_layer else 0.1
            ),
            float32_modules=options.float32 if precision == "fp16" else (),
        )
        seconds = time.perf_counter() - begin
        size = sum(entry.size for entry in Bundle(bundle).manifest.files.values())
        cells = [form.name, f"{size / 1e6:.1f}", f"{seconds:.0f}"]
        model = load(bundle, form.backend or format)
        result = verify(truth, model, clip, TOLERANCES[precision])
        largest = max(error.relative for error in result.tensors["frame"].values())
        tracks = result.tracks
        same = "same" if tracks.same_tracks else "not all"
        iou = "-" if tracks.min_mask_iou is None else f"{tracks.min_mask_iou:.4f}"
        score = tracks.max_score_difference
        cells += [f"{largest:.1e}", same, iou, "-" if score is None else f"{score:.1e}"]
        return [*cells, average_precision(model, options.data)]


def average_precision(model: Model, data: Path | None) -> str:
    """AP in percent; empty without a data set."""
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
    parser.add_argument("--float32", nargs="*", default=[], help="modules, in fp16 forms")
    parser.add_argument("--precisions", nargs="*", default=["fp32", "fp16", "int8"])
    parser.add_argument("--source", help="clip that errors are measured on")
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--data", type=Path)
    options = parser.parse_args()
    if options.source:
        clip = list(islice(open_source(options.source)[0].pictures(), options.frames))
    else:
        clip = list(sample_frames(options.frames))
    truth = load(options.weights, "torch")
    heads = ["form", "MB", "seconds", "relative error", "tracks", "mask IoU", "score", "AP"]
    print("| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|")
    for form in (each for each in FORMS if each.precision in options.precisions):
        try:
            cells = row(options.weights, form, options, clip, truth)
        except VisoloError as error:
            cells = [form.name, str(error), *[""] * 6]
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
