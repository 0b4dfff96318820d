"""``visolo demo``: everything once, from weights to an annotated video."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder for what the demo makes.")
    ] = Path("demo"),
    frames: Annotated[int, typer.Option(min=1, help="Length of the generated clip.")] = 60,
) -> None:
    """Export a small network and run it on a generated clip.

    The network is untrained: it shows that the whole way works, not what VISOLO can see.
    """
    from fractions import Fraction

    from visolo_core.categories import SHAPES
    from visolo_core.checkpoint import Checkpoint, CheckpointHeader, save_checkpoint
    from visolo_core.config import LITE, InferenceConfig
    from visolo_core.errors import VisoloError
    from visolo_core.files import reason
    from visolo_core.nn.initialise import untrained
    from visolo_export.bundle_writer import write_bundle
    from visolo_runtime.bundle import file_entry
    from visolo_runtime.commands.progress import RunProgress
    from visolo_runtime.model import load
    from visolo_runtime.runner import RunOptions, run
    from visolo_runtime.sample_clip import sample_frames
    from visolo_runtime.sinks import open_sinks
    from visolo_runtime.sources import Clip

    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise VisoloError(f"cannot write '{output}': {reason(error)}") from error
    config = LITE.with_classes(len(SHAPES))
    checkpoint = Checkpoint(CheckpointHeader(config, SHAPES), untrained(config).state_dict())
    weights, bundle = output / "weights.safetensors", output / "model.visolo"
    save_checkpoint(weights, checkpoint)
    typer.echo(f"{weights}: an untrained network", err=True)
    write_bundle(checkpoint, bundle, InferenceConfig(), file_entry(weights).sha256)
    typer.echo(f"{bundle}: its graphs as ONNX", err=True)

    model = load(bundle)
    clip = Clip(1, "generated clip", lambda: sample_frames(frames), Fraction(30), frames)
    video, results = output / "annotated.mp4", output / "results.json"
    sinks = open_sinks([clip], model.labels, results, output / "frames.jsonl", video)
    with RunProgress([clip], None) as progress:
        summary = run(
            model, [clip], sinks, RunOptions(record=True), progress.advance, progress.warn
        )
    progress.summarise(summary, model)
    typer.echo(f"{video}\n{results}\n{summary.frames / summary.step_seconds:.1f} FPS")
