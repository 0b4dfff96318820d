"""``visolo eval``: a model scored on a data set."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from visolo.commands.figures import (
    DataSetResults,
    FigureOptions,
    Html,
    TrackScore,
    WithIdentity,
    report_figures,
)
from visolo.commands.options import (
    BackendName,
    Confidence,
    DeviceOption,
    Json,
    ModelName,
    PrecisionName,
    Settings,
    Threads,
    changed,
    model_files,
)
from visolo_train.evaluation.scoring import TRACK_SCORE

if TYPE_CHECKING:
    from visolo_runtime.session.loading import Model


def evaluate(
    model: ModelName,
    data: Annotated[Path, typer.Option(help="Annotations in YouTube-VIS format (json).")],
    images: Annotated[
        Path | None,
        typer.Option(help="Folder of the frames; by default JPEGImages beside the json."),
    ] = None,
    results: Annotated[
        Path | None, typer.Option(help="Write the results that are scored here (json).")
    ] = None,
    backend: BackendName = "auto",
    precision: PrecisionName = "",
    device: DeviceOption = "",
    threads: Threads = 0,
    confidence: Confidence = None,
    settings: Settings = None,
    identity: WithIdentity = False,
    track_score: TrackScore = TRACK_SCORE,
    html: Html = None,
    as_json: Json = False,
) -> None:
    """Run a model over a data set and score it as the official evaluator does."""
    from visolo.commands.progress import RunProgress
    from visolo_runtime.runner import RunOptions, run
    from visolo_runtime.session.loading import load
    from visolo_runtime.sinks.own_files import check_own_files
    from visolo_runtime.sinks.results_file import ResultsFile
    from visolo_runtime.sinks.sink import Sink
    from visolo_runtime.sources.opening import open_source
    from visolo_train.data.annotations import read_annotations
    from visolo_train.evaluation.scoring import TrackCollector, check_labels

    figure_options = FigureOptions(as_json, identity, track_score, html)
    figure_options.check()
    annotations = read_annotations(data)
    clips = open_source(str(data), images)
    loaded = load(
        model,
        backend,
        lambda config: changed(config, settings, confidence),
        threads,
        precision,
        device,
    )
    check_labels(loaded.labels, annotations.labels)
    written = [(name, path) for name, path in (("--results", results), ("--html", html)) if path]
    read = [data, *(file for clip in clips for file in clip.files), *model_files(model)]
    check_own_files(written, read)
    collector = TrackCollector(loaded.labels)
    sinks: list[Sink] = [collector]
    if results:
        sinks.append(ResultsFile(results, loaded.labels, whole=True))
    with RunProgress(clips, None) as progress:
        options = RunOptions(record=True)
        summary = run(
            loaded, clips, sinks, options, progress.advance, progress.warn, progress.report
        )
    if summary.interrupted:
        typer.echo(
            "visolo: interrupted before the whole data set was run; nothing was scored", err=True
        )
        raise typer.Exit(summary.exit_status)
    if not as_json:
        progress.summarise(summary, loaded)
    name = Path(model).absolute().name
    folder = images or data.parent / "JPEGImages"
    report_figures(
        DataSetResults(
            name,
            data,
            annotations.without(collector.failed_videos),
            collector.tracks,
            _settings(loaded),
            folder,
        ),
        figure_options,
    )
    if collector.failed_videos:
        typer.echo(
            f"visolo: {len(collector.failed_videos)} of {len(clips)} videos could not be run to "
            "their ends and are not part of the figures",
            err=True,
        )
    if summary.exit_status:
        raise typer.Exit(summary.exit_status)


def _settings(model: Model) -> dict[str, str]:
    """How the model was run, for the page."""
    height, width = model.config.input_size
    return {
        "network": f"{model.config.backbone}, {width}x{height}",
        "engine": model.engines.description,
        **{name.replace("_", " "): f"{value:g}" for name, value in asdict(model.inference).items()},
    }
