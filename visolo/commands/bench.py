"""``visolo bench``: how fast a model is, alone or against another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from visolo.commands.options import (
    DEVICES,
    EXIT_CHECK_FAILED,
    BackendName,
    DeviceOption,
    Json,
    ModelName,
    PrecisionName,
    Settings,
    Threads,
    changed,
    known_device,
)

if TYPE_CHECKING:
    from visolo_core.config import InferenceConfig


def bench(
    model: ModelName,
    source: Annotated[
        str | None,
        typer.Argument(
            help="Video file, folder of frames or json; by default a generated 640x360 clip."
        ),
    ] = None,
    backend: BackendName = "auto",
    precision: PrecisionName = "",
    device: DeviceOption = "",
    against: Annotated[
        str | None, typer.Option(help="Another model to compare with; by default the same one.")
    ] = None,
    against_backend: Annotated[
        str,
        typer.Option(metavar="BACKEND", help="Backend of the other model; by default the same."),
    ] = "",
    against_precision: Annotated[
        str, typer.Option(help="Precision of the other model; by default the same.")
    ] = "",
    against_device: Annotated[
        str,
        typer.Option(
            metavar=DEVICES,
            callback=known_device,
            help="Device of the other model; by default the same.",
        ),
    ] = "",
    frames: Annotated[int, typer.Option(min=1, help="Frames measured in each round.")] = 100,
    warm_up: Annotated[
        int, typer.Option(min=0, help="Frames run before those, not measured.")
    ] = 10,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds for each model.")] = 5,
    masks: Annotated[
        bool, typer.Option(help="Resize every mask to the source's size, as drawing does.")
    ] = True,
    ahead: Annotated[
        bool, typer.Option(help="Read and resize frames in a thread, as 'visolo run' does.")
    ] = False,
    idle: Annotated[
        bool, typer.Option("--idle", help="Measure black frames, in which nothing is found.")
    ] = False,
    target_fps: Annotated[
        float | None, typer.Option(min=0, help="Exit status 1 if the model is slower than this.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Write a chart of the times here (PNG).")
    ] = None,
    threads: Threads = 0,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Measure frames per second end to end, and the time of every stage of a step.

    With --against or one of the options that begin with it, two models take turns in one process,
    and the ratio of their speeds is reported for each pair of rounds.
    """
    from rich.console import Console

    from visolo.commands.bench_table import print_measurement
    from visolo_core.errors import VisoloError
    from visolo_runtime.bench import Entrant, Plan, measure
    from visolo_runtime.bench_picture import draw_measurement
    from visolo_runtime.bench_report import BenchReport
    from visolo_runtime.bench_source import frame_source
    from visolo_runtime.session.loading import load

    if picture is not None and not picture.absolute().parent.is_dir():
        raise VisoloError(f"cannot write '{picture}': its folder does not exist")
    play, source_name = frame_source(source, warm_up + frames, idle)
    sides = [("A", model, backend, precision, device)]
    if against or against_backend or against_precision or against_device:
        sides.append(
            (
                "B",
                against or model,
                against_backend or backend,
                against_precision or precision,
                against_device or device,
            )
        )

    def inference(config: InferenceConfig) -> InferenceConfig:
        return changed(config, settings)

    entrants = [
        Entrant(name, load(path, library, inference, threads, bits, place))
        for name, path, library, bits, place in sides
    ]
    console = Console(stderr=True, highlight=False)
    with console.status("") as status:
        measurements = measure(
            entrants,
            play,
            Plan(frames, warm_up, rounds, masks, ahead),
            lambda name, number: status.update(f"round {number + 1} of {rounds}, {name}"),
        )
    report = BenchReport(measurements, source_name, ahead, target_fps)
    if picture is not None:
        draw_measurement(measurements, source_name, picture)
    if as_json:
        typer.echo(json.dumps(report.as_dict()))
    else:
        print_measurement(report)
    if report.passed is False:
        raise typer.Exit(EXIT_CHECK_FAILED)
