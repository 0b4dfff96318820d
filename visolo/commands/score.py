"""``visolo score``: average precision of a results file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from visolo.commands.figures import Html, Request, Results, TrackScore, WithIdentity, tell
from visolo.commands.options import Json
from visolo_train.evaluation.scoring import TRACK_SCORE


def score(
    annotations: Annotated[Path, typer.Argument(help="Annotations in YouTube-VIS format (json).")],
    results: Annotated[Path, typer.Argument(help="Results in YouTube-VIS format (json).")],
    identity: WithIdentity = False,
    track_score: TrackScore = TRACK_SCORE,
    html: Html = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder of the frames, for pictures in the page.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Score a results file as the official evaluator does."""
    from visolo_core.errors import VisoloError
    from visolo_train.data.annotations import read_annotations, read_results

    request = Request(as_json, identity, track_score, html)
    request.check()
    if images and not images.is_dir():
        raise VisoloError(f"there is no folder '{images}': name that of the frames")
    truth = read_annotations(annotations)
    tracks = read_results(results, truth)
    tell(Results(results.name, annotations, truth, tracks, {}, images), request)
