"""``visolo verify``: two forms of a model compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from visolo.commands.options import (
    DEVICES,
    EXIT_CHECK_FAILED,
    BackendName,
    DeviceOption,
    Json,
    PrecisionName,
    Threads,
    known_device,
)


def verify(
    model: Annotated[
        str,
        typer.Argument(help="A bundle; or weights, to compare PyTorch on a GPU with the CPU."),
    ],
    reference: Annotated[
        str, typer.Option(help="The weights it was exported from, or any bundle.")
    ],
    backend: BackendName = "auto",
    precision: PrecisionName = "",
    device: DeviceOption = "",
    reference_backend: Annotated[
        str, typer.Option(metavar="BACKEND", help="Backend of the reference.")
    ] = "auto",
    reference_precision: Annotated[
        str,
        typer.Option(help="Precision of the reference; by default the first that it has."),
    ] = "",
    reference_device: Annotated[
        str,
        typer.Option(
            metavar=DEVICES,
            callback=known_device,
            help="Device of the reference; by default what its backend is for, of weights the CPU.",
        ),
    ] = "",
    source: Annotated[
        str | None,
        typer.Option(help="Video, folder or json to run; by default a generated clip."),
    ] = None,
    frames: Annotated[int, typer.Option(min=1, help="Frames of the source to run.")] = 12,
    data: Annotated[
        Path | None, typer.Option(help="Score both on this data set as well (json).")
    ] = None,
    ap_tolerance: Annotated[
        float, typer.Option(min=0, help="Largest loss of AP that is allowed on --data, 0 to 1.")
    ] = 0.01,
    bisect: Annotated[
        bool, typer.Option("--bisect", help="Name the first layer of the ONNX graph that differs.")
    ] = False,
    html: Annotated[
        Path | None,
        typer.Option(help="Write a page with curves of the error over the frames here."),
    ] = None,
    record: Annotated[
        bool, typer.Option("--record", help="Record the figures in the bundle's manifest.")
    ] = False,
    threads: Threads = 0,
    as_json: Json = False,
) -> None:
    """Check that a model computes the same as its weights or as another form of it.

    First every tensor of every graph is compared on the same inputs, then whole clips are run
    closed-loop, each side with its own memory. The tolerances depend on the precision. Exit status
    1 if a difference is over tolerance. With --record the bundle's manifest keeps the figures,
    whether or not they pass.
    """
    from rich.console import Console

    from visolo.commands.verify_table import print_report
    from visolo_core.errors import VisoloError
    from visolo_export.verification_page import write_verification_page
    from visolo_export.verification_report import Side, VerificationOptions, verify_bundle
    from visolo_runtime.models.shipped import model_path

    if html is not None and not html.absolute().parent.is_dir():
        raise VisoloError(f"cannot write '{html}': its folder does not exist")
    console = Console(stderr=True, highlight=False)
    with console.status("") as status:
        report = verify_bundle(
            Side(model_path(model), backend, precision, device),
            Side(model_path(reference), reference_backend, reference_precision, reference_device),
            VerificationOptions(source, frames, data, ap_tolerance, bisect, record, threads),
            status.update,
            lambda sentence: console.print(f"visolo: {sentence}", markup=False, soft_wrap=True),
        )
    if html is not None:
        write_verification_page(html, report)
    if as_json:
        typer.echo(json.dumps(report.as_dict()))
    else:
        print_report(report)
    if not report.passed:
        raise typer.Exit(EXIT_CHECK_FAILED)
