"""``visolo score``: a results file scored against annotations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from visolo.commands.figures import (
    DataSetResults,
    FigureOptions,
    Html,
    TrackScore,
    WithIdentity,
    report_figures,
)
from visolo.commands.options import Json
from visolo_train.evaluation.scoring import TRACK_SCORE


def score(
    annotations: Annotated[Path, typer.Argument(help="Annotations in YouTube-VIS format (json).")],
    results: Annotated[Path, typer.Argument(help="Results in YouTube-VIS format (json).")],
    identity: WithIdentity = False,
    track_score: TrackScore = TRACK_SCORE,
    html: Html = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder of the frames, for pictures on the page.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Score a results file as the official evaluator does."""
    from visolo_core.errors import VisoloError
    from visolo_train.data.annotations import read_annotations, read_results

    figure_options = FigureOptions(as_json, identity, track_score, html)
    figure_options.check()
    if images and not images.is_dir():
        raise VisoloError(f"there is no folder '{images}': name the folder of the frames")
    truth = read_annotations(annotations)
    tracks = read_results(results, truth)
    report_figures(
        DataSetResults(results.name, annotations, truth, tracks, {}, images), figure_options
    )
