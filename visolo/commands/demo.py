"""``visolo demo``: the model that comes with the package, run and scored."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from visolo.commands.options import (
    Classes,
    Confidence,
    DeviceOption,
    changed,
)

if TYPE_CHECKING:
    from visolo_runtime.session.loading import Model
    from visolo_runtime.sources.clip import Clip

_CLIP_SEED, _CLIP_NUMBER = 2026, 13  # of 48 clips, one with an IDF1 (89) near the median (90)
_SHOWN = 0.3  # of a source: what has a lower score is often nothing
_VALIDATION_SEED = 2027  # not a seed that the model was trained on


def demo(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the output.")] = Path(
        "demo"
    ),
    source: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE",
            help="Show the model for real things on this video, camera or stream instead.",
        ),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(min=1, help="Frames to run: by default 90 drawn ones, or the whole source."),
    ] = None,
    videos: Annotated[
        int, typer.Option(min=1, help="Drawn videos of 16 frames to score the model on.")
    ] = 30,
    device: DeviceOption = "",
    classes: Classes = None,
    confidence: Confidence = None,
) -> None:
    """Run a model of the package, and write an annotated video and its results.

    Without a source, the model for six drawn shapes (disc, square, triangle, star, cross, ring)
    runs on a drawn clip and is scored on drawn videos. With --source, the model for people,
    vehicles and animals runs on it until it ends or Ctrl-C, and shows what it finds with a score
    of .3 or more; --conf changes that.
    """
    from visolo.commands.progress import RunProgress
    from visolo_core.errors import VisoloError
    from visolo_core.files import reason
    from visolo_runtime.runner import RunOptions, run
    from visolo_runtime.sources.opening import open_source
    from visolo_train.data.drawn_data import drawn_clip, drawn_data
    from visolo_train.evaluation.scoring import TrackCollector, score_tracks

    if source is None:
        if classes is not None or confidence is not None:
            raise VisoloError("--classes and --conf are for a source of yours: name it by --source")
        clips = [drawn_clip(_CLIP_SEED, _CLIP_NUMBER, frames or 90, (360, 640))]
    else:
        clips = open_source(source)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise VisoloError(f"cannot write '{output}': {reason(error)}") from error
    if source is not None:
        lowest = _SHOWN if confidence is None else confidence
        _show(_opened("everyday", device, classes, lowest), clips, output, frames)
        return
    model = _show(_opened("shapes", device), clips, output, None)
    annotations, clips = drawn_data(_VALIDATION_SEED, videos, 16, (192, 336))
    collector = TrackCollector(model.labels)
    with RunProgress(clips, None) as progress:
        scored = run(
            model,
            clips,
            [collector],
            RunOptions(record=True),
            progress.advance,
            progress.warn,
            progress.report,
        )
    if scored.exit_status:
        raise typer.Exit(scored.exit_status)
    figures = score_tracks(annotations, collector.tracks).figures
    typer.echo(
        f"AP {100 * figures['AP']:.1f}, AP50 {100 * figures['AP50']:.1f} on {videos} drawn videos"
    )


def _opened(
    name: str, device: str, classes: str | None = None, confidence: float | None = None
) -> Model:
    """A model of the package."""
    from visolo_runtime.models.shipped import shipped_model
    from visolo_runtime.session.loading import load

    bundle = shipped_model(name)
    settings = partial(changed, settings=None, confidence=confidence)
    model = load(bundle, settings=settings, device=device)
    typer.echo(f"{bundle}: {model.labels.name}, a model in the package", err=True)
    return model if classes is None else model.only(classes)


def _show(model: Model, clips: list[Clip], output: Path, frames: int | None) -> Model:
    """Run a model over clips, into a folder."""
    from visolo.commands.progress import RunProgress
    from visolo_runtime.runner import RunOptions, run
    from visolo_runtime.sinks.outputs import Outputs, open_sinks

    video, results = output / "annotated.mp4", output / "results.json"
    outputs = Outputs(results, output / "frames.jsonl", video)
    sinks = open_sinks(clips, model.labels, outputs)
    with RunProgress(clips, frames, outputs.notes(model.labels)) as progress:
        summary = run(
            model,
            clips,
            sinks,
            RunOptions(record=True, max_frames=frames),
            progress.advance,
            progress.warn,
            progress.report,
        )
    progress.summarise(summary, model)
    rate = f"{summary.frames / summary.step_seconds:.1f} FPS" if summary.frames else "no frames"
    typer.echo(f"{video}\n{results}\n{rate}")
    if summary.exit_status:
        raise typer.Exit(summary.exit_status)
    return model
