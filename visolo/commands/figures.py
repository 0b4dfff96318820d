"""What ``visolo eval`` and ``visolo score`` report about results, and the options for it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from visolo_train.evaluation.report_parts import percent
from visolo_train.evaluation.scoring import TRACK_SCORE

if TYPE_CHECKING:
    from visolo_core.categories import LabelSet
    from visolo_train.data.annotations import AnnotatedTrack, Annotations
    from visolo_train.evaluation.scoring import Score

WithIdentity = Annotated[
    bool, typer.Option("--identity", help="Measure identity as well: HOTA and IDF1.")
]
TrackScore = Annotated[
    float,
    typer.Option(
        min=0, max=1, help="Tracks below this score are left out of --identity and of the page."
    ),
]
Html = Annotated[
    Path | None, typer.Option(help="Write a page with figures, curves and pictures here (html).")
]


@dataclass(frozen=True)
class FigureOptions:
    """Which figures to report, and where."""

    as_json: bool = False
    """Print one JSON object instead of text."""
    identity: bool = False
    track_score: float = TRACK_SCORE
    html: Path | None = None

    def check(self) -> None:
        """Fail now rather than after a long run.

        Raises:
            ModuleNotFoundError: if the package that measures identity is not installed.
            VisoloError: if the page cannot be written.
        """
        if self.identity:
            import_module("visolo_train.evaluation.identity")
        if self.html:
            from visolo_core.files import check_writable

            check_writable(self.html)


@dataclass(frozen=True)
class DataSetResults:
    """The tracks of every video of a data set, and where they come from."""

    subject: str
    """Name of the model or of the results file."""
    data: Path
    annotations: Annotations
    tracks: Sequence[AnnotatedTrack]
    settings: dict[str, str]
    images: Path | None
    """Folder of the frames; None leaves a page without pictures."""


def report_figures(results: DataSetResults, options: FigureOptions) -> None:
    """Score results, print the figures and write the page.

    Raises:
        VisoloError: if the page cannot be written.
    """
    from visolo_train.evaluation.scoring import score_tracks

    truth, tracks, identity = results.annotations, results.tracks, None
    score = score_tracks(truth, tracks)
    if options.identity:
        from visolo_train.evaluation.identity import identity_measures

        identity = identity_measures(truth, tracks, options.track_score)
    if options.as_json:
        identity_figures = {"identity": identity.as_dict()} if identity else {}
        typer.echo(json.dumps(score.as_dict() | identity_figures))
    else:
        _print_score(score, truth.labels)
        if identity:
            typer.echo(
                _line(identity.figures())
                + f"  (tracks with a score of at least {options.track_score:g})"
            )
    if options.html:
        from visolo_train.evaluation.report import Report, write_report

        report = Report(
            results.subject,
            _name(results.data),
            results.settings,
            truth,
            tracks,
            options.track_score,
            score,
            identity,
            results.images,
        )
        write_report(options.html, report)


def _name(data: Path) -> str:
    """Name of a data set: its folder's if the file has the usual name, instances.json."""
    return data.absolute().parent.name if data.stem == "instances" else data.stem


def _print_score(score: Score, labels: LabelSet) -> None:
    """Print the figures and the AP of each category, in percent."""
    typer.echo(_line(score.figures))
    names = dict(zip(labels.ids, labels.names, strict=True))
    for category, ap in score.per_category.items():
        if ap >= 0:
            typer.echo(f"  {names[category]:<20} {percent(ap):>5}")


def _line(figures: dict[str, float]) -> str:
    return "  ".join(f"{name} {percent(value)}" for name, value in figures.items())
