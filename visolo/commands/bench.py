"""``visolo bench``: how fast a model is, and how fast beside another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from visolo.commands.options import (
    EXIT_CHECK_FAILED,
    BackendName,
    Json,
    PrecisionName,
    Settings,
    Threads,
    changed,
)

if TYPE_CHECKING:
    from visolo_runtime.bench_report import BenchReport


def bench(
    model: Annotated[Path, typer.Argument(help="A bundle, or weights (.safetensors, .pt).")],
    source: Annotated[
        str | None,
        typer.Argument(
            help="Video file, folder of frames or json; by default a generated 640x360 clip."
        ),
    ] = None,
    backend: BackendName = "auto",
    precision: PrecisionName = "",
    against: Annotated[
        Path | None, typer.Option(help="Another model to take turns with; by default the same.")
    ] = None,
    against_backend: Annotated[str, typer.Option(help="For the other model.")] = "",
    against_precision: Annotated[str, typer.Option(help="For the other model.")] = "",
    frames: Annotated[int, typer.Option(min=1, help="Measured frames per round.")] = 100,
    warm_up: Annotated[int, typer.Option(min=0, help="Unmeasured frames before those.")] = 10,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds per model.")] = 5,
    masks: Annotated[
        bool, typer.Option(help="Resize every mask to the source's size, as drawing does.")
    ] = True,
    ahead: Annotated[
        bool, typer.Option(help="Read and resize frames in a thread, as 'visolo run' does.")
    ] = False,
    target_fps: Annotated[
        float | None, typer.Option(min=0, help="Exit status 1 if the model is slower than this.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Write a chart of stages and frame times here (PNG).")
    ] = None,
    threads: Threads = 0,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Measure frames per second end to end, and every stage of a step.

    With --against, --against-backend or --against-precision two models take turns in one process,
    and the ratio of each pair of rounds is reported.
    """
    from rich.console import Console

    from visolo_core.errors import VisoloError
    from visolo_runtime.bench import Entrant, Plan, measure
    from visolo_runtime.bench_picture import draw_measurement
    from visolo_runtime.bench_report import BenchReport
    from visolo_runtime.bench_source import frame_source
    from visolo_runtime.session.loading import load

    if picture is not None and not picture.absolute().parent.is_dir():
        raise VisoloError(f"cannot write '{picture}': its folder does not exist")
    play, source_name = frame_source(source, warm_up + frames)
    wanted = [("A", model, backend, precision)]
    if against or against_backend or against_precision:
        wanted.append(
            ("B", against or model, against_backend or backend, against_precision or precision)
        )
    entrants = [
        Entrant(name, load(path, library, lambda config: changed(config, settings), threads, bits))
        for name, path, library, bits in wanted
    ]
    console = Console(stderr=True, highlight=False)
    with console.status("") as status:
        measured = measure(
            entrants,
            play,
            Plan(frames, warm_up, rounds, masks, ahead),
            lambda name, number: status.update(f"round {number + 1} of {rounds}, {name}"),
        )
    report = BenchReport(measured, source_name, ahead, target_fps)
    if picture is not None:
        draw_measurement(measured, source_name, picture)
    if as_json:
        typer.echo(json.dumps(report.as_dict()))
    else:
        _print(report)
    if report.passed is False:
        raise typer.Exit(EXIT_CHECK_FAILED)


def _print(report: BenchReport) -> None:
    from rich.console import Console
    from rich.table import Table

    from visolo_runtime.bench import ALL_STAGES

    table = Table(title=f"ms a frame: {report.source}, {report.processor}")
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
