"""What ``visolo bench`` prints without ``--json``: a table of times, then lines of text."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from visolo_runtime.bench import ALL_STAGES
from visolo_runtime.bench_report import BenchReport


def print_measurement(report: BenchReport) -> None:
    """Print the times of every model, on standard output."""
    table = Table(title=f"ms per frame: {report.source}, {report.processor}")
    table.add_column("")
    for each in report.measured:
        table.add_column(f"{each.name} {each.precision}", justify="right")
    stages = [each.stage_ms() for each in report.measured]
    for stage in ALL_STAGES:
        if any(each[stage] for each in stages):
            table.add_row(stage, *(f"{each[stage]:.2f}" for each in stages))
    table.add_section()
    table.add_row(
        "host's share of a step", *(f"{100 * each.host_share():.1f} %" for each in report.measured)
    )
    for share in (50, 90, 99):
        table.add_row(f"p{share}", *(f"{each.percentile(share):.2f}" for each in report.measured))
    table.add_row("FPS", *(f"{each.fps:.1f}" for each in report.measured))
    console = Console(highlight=False)
    console.print(table)
    for each in report.measured:
        console.print(
            f"{each.name}: {each.description}, {each.resident_mb:.0f} MB resident", markup=False
        )
    if report.ratio is not None:
        pairs = ", ".join(f"{ratio:.2f}" for ratio in report.ratios)
        console.print(f"A is {report.ratio:.2f} times as fast as B (by rounds: {pairs})")
    if report.passed is not None:
        word = "passed" if report.passed else "FAILED"
        console.print(f"{word}: {report.measured[0].fps:.1f} FPS, target {report.target_fps:g}")
