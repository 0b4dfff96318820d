"""``visolo eval``: average precision of a model on a data set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from visolo_runtime.commands.options import EXIT_INTERRUPTED, Json, Settings, changed


def evaluate(
    model: Annotated[Path, typer.Argument(help="A bundle, or weights (.safetensors, .pt).")],
    data: Annotated[Path, typer.Option(help="Annotations in YouTube-VIS format (json).")],
    images: Annotated[
        Path | None, typer.Option(help="Folder of the frames; JPEGImages beside the json else.")
    ] = None,
    results: Annotated[
        Path | None, typer.Option(help="Keep the results that were scored here (json).")
    ] = None,
    backend: Annotated[str, typer.Option(help="auto, onnxruntime, torch.")] = "auto",
    threads: Annotated[int, typer.Option(min=0, help="Threads of the engine.")] = 0,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Run a model over a data set and score it as the official evaluator does."""
    from visolo_runtime.commands.progress import RunProgress
    from visolo_runtime.model import load
    from visolo_runtime.runner import RunOptions, run
    from visolo_runtime.sinks import ResultsFile, Sink
    from visolo_runtime.sources import open_source
    from visolo_train.annotations import read_annotations
    from visolo_train.commands.score import show
    from visolo_train.evaluation import TrackCollector, check_labels, score_tracks

    annotations = read_annotations(data)
    clips = open_source(str(data), images)
    opened = load(model, backend, lambda config: changed(config, settings), threads)
    check_labels(opened.labels, annotations.labels)
    collector = TrackCollector(opened.labels)
    sinks: list[Sink] = [collector]
    if results:
        sinks.append(ResultsFile(results, opened.labels))
    with RunProgress(clips, None) as progress:
        options = RunOptions(record=True)
        summary = run(opened, clips, sinks, options, progress.advance, progress.warn)
    if summary.interrupted:
        typer.echo("visolo: interrupted; a part of the data set has no score", err=True)
        raise typer.Exit(EXIT_INTERRUPTED)
    found = score_tracks(annotations, collector.tracks)
    if as_json:
        typer.echo(json.dumps(found.as_dict()))
        return
    progress.summarise(summary, opened)
    show(found, annotations.labels)
