"""What ``visolo verify`` prints without ``--json``: a table of tensors, then lines of text."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from visolo_export.verification import Verification, limit_of
from visolo_export.verification_report import Bisection, VerificationReport


def print_report(report: VerificationReport) -> None:
    """Print everything that was compared, on standard output."""
    console = Console(highlight=False)
    title = f"{report.form} against {report.reference}: {report.source}"
    console.print(_table(report.verification, title))
    _print_tracks(console, report.verification)
    if report.ap:
        console.print(
            f"AP {100 * report.ap.candidate:.1f}, reference {100 * report.ap.reference:.1f}"
        )
    if report.bisection:
        console.print(_first_layer(report.bisection), markup=False)
    for failure in report.failures:
        console.print(f"over tolerance: {failure}", markup=False)
    console.print("passed" if report.passed else "FAILED")


def _table(verification: Verification, title: str) -> Table:
    table = Table(title=f"{title}, {verification.frames} frames")
    for heading in ("tensor", "absolute", "relative", "allowed", ""):
        table.add_column(heading, justify="left" if heading in ("tensor", "") else "right")
    for graph, tensors in verification.tensors.items():
        for name, error in tensors.items():
            limit = limit_of(name, verification.tolerance)
            if limit is None:
                continue
            measure, largest = limit
            table.add_row(
                f"{graph}.{name}",
                f"{error.absolute:.2e}",
                f"{error.relative:.2e}",
                f"{largest:.0e} {measure}",
                "ok" if getattr(error, measure) <= largest else "OVER",
            )
    return table


def _print_tracks(console: Console, verification: Verification) -> None:
    tracks = verification.tracks
    if verification.decoded_mask_iou is not None:
        console.print(
            f"masks decoded from the same inputs: IoU at least {verification.decoded_mask_iou:.5f}"
        )
    console.print(
        f"closed-loop: {tracks.reference_tracks} tracks against {tracks.candidate_tracks}, "
        + ("the same set" if tracks.same_tracks else "NOT the same set")
    )
    if tracks.max_score_difference is not None and tracks.min_mask_iou is not None:
        console.print(
            f"closed-loop: scores differ by at most {tracks.max_score_difference:.1e}, "
            f"mask IoU at least {tracks.min_mask_iou:.5f}"
        )
    else:
        console.print(
            "closed-loop: no matching tracks to compare; name a --source that shows instances"
        )


def _first_layer(bisection: Bisection) -> str:
    first = bisection.first
    if first is None:
        return "no layer of the frame graph differs from the reference"
    return (
        f"the first layer that differs: {first.module}, {first.operator} '{first.node}', "
        f"by {first.error:.2g} of its largest value"
    )
