"""``visolo score``: average precision of a results file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from visolo_runtime.commands.options import Json

if TYPE_CHECKING:
    from visolo_core.categories import LabelSet
    from visolo_train.evaluation import Score


def score(
    annotations: Annotated[Path, typer.Argument(help="Annotations in YouTube-VIS format (json).")],
    results: Annotated[Path, typer.Argument(help="Results in YouTube-VIS format (json).")],
    as_json: Json = False,
) -> None:
    """Score a results file as the official evaluator does."""
    from visolo_train.annotations import read_annotations, read_results
    from visolo_train.evaluation import score_tracks

    truth = read_annotations(annotations)
    found = score_tracks(truth, read_results(results, truth))
    if as_json:
        typer.echo(json.dumps(found.as_dict()))
        return
    show(found, truth.labels)


def show(score: Score, labels: LabelSet) -> None:
    """The figures for people, in percent."""
    typer.echo("  ".join(f"{name} {100 * value:.1f}" for name, value in score.figures.items()))
    names = dict(zip(labels.ids, labels.names, strict=True))
    for category, ap in score.per_category.items():
        if ap >= 0:
            typer.echo(f"  {names[category]:<20} {100 * ap:5.1f}")
