"""``visolo demo``: the model that comes with the package, run and scored."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from visolo.commands.options import EXIT_INTERRUPTED, DeviceOption

_CLIP_SEED, _CLIP_NUMBER = 2026, 13  # of 48 clips, one with an IDF1 (89) near the median (90)
_VALIDATION_SEED = 2027  # not a seed that the model was trained on


def demo(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the output.")] = Path(
        "demo"
    ),
    frames: Annotated[int, typer.Option(min=1, help="Frames in the drawn clip.")] = 90,
    videos: Annotated[
        int, typer.Option(min=1, help="Drawn videos of 16 frames to score the model on.")
    ] = 30,
    device: DeviceOption = "",
) -> None:
    """Run the shipped small model on a drawn clip, and score it on drawn videos.

    It knows six shapes (disc, square, triangle, star, cross, ring) and nothing else.
    """
    from visolo.commands.progress import RunProgress
    from visolo_core.errors import VisoloError
    from visolo_core.files import reason
    from visolo_runtime.runner import RunOptions, run
    from visolo_runtime.session.loading import load, shipped_model
    from visolo_runtime.video.sinks import open_sinks
    from visolo_train.data.drawn_data import drawn_clip, drawn_data
    from visolo_train.evaluation.scoring import TrackCollector, score_tracks

    bundle = shipped_model()
    model = load(bundle, device=device)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise VisoloError(f"cannot write '{output}': {reason(error)}") from error
    typer.echo(f"{bundle}: the shipped model", err=True)

    clip = drawn_clip(_CLIP_SEED, _CLIP_NUMBER, frames, (360, 640))
    video, results = output / "annotated.mp4", output / "results.json"
    sinks = open_sinks([clip], model.labels, results, output / "frames.jsonl", video)
    options = RunOptions(record=True)
    with RunProgress([clip], None) as progress:
        summary = run(model, [clip], sinks, options, progress.advance, progress.warn)
    progress.summarise(summary, model)
    typer.echo(f"{video}\n{results}\n{summary.frames / summary.step_seconds:.1f} FPS")
    if summary.interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)

    annotations, clips = drawn_data(_VALIDATION_SEED, videos, 16, (192, 336))
    collector = TrackCollector(model.labels)
    with RunProgress(clips, None) as progress:
        scored = run(model, clips, [collector], options, progress.advance, progress.warn)
    if scored.interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)
    figures = score_tracks(annotations, collector.tracks).figures
    typer.echo(
        f"AP {100 * figures['AP']:.1f}, AP50 {100 * figures['AP50']:.1f} on {videos} drawn videos"
    )
