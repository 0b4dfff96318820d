"""``visolo triton``: a bundle becomes a model in a repository of NVIDIA Triton."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from visolo.commands.options import (
    BackendName,
    DeviceOption,
    Json,
    PrecisionName,
    Threads,
)
from visolo_runtime.models import HUB
from visolo_runtime.models.shipped import SHIPPED, model_path


def triton(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help=f"{', '.join(SHIPPED)} (models in the package), a bundle, or {HUB}OWNER/NAME.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", help="Model repository; its other models stay."),
    ],
    name: Annotated[
        str, typer.Option(help="Of the model in Triton; by default that of the bundle.")
    ] = "",
    streams: Annotated[
        int, typer.Option(min=1, help="Sequences that an instance has room for.")
    ] = 8,
    idle: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", help="A sequence without a frame for so long is forgotten."
        ),
    ] = 60.0,
    instances: Annotated[
        int,
        typer.Option(min=1, help="Processes that share the sequences; with --device cuda, a GPU."),
    ] = 1,
    backend: BackendName = "auto",
    precision: PrecisionName = "",
    device: DeviceOption = "",
    threads: Threads = 0,
    as_json: Json = False,
) -> None:
    """Write a bundle into a model repository for NVIDIA Triton, with one session a sequence.

    Triton loads it with its Python backend; visolo must be installed there. PyTorch is not needed.
    """
    from visolo_core.checkpoint_header import is_weights_file
    from visolo_core.errors import VisoloError
    from visolo_runtime.triton.repository import CONFIG, ReplicaOptions, write_repository

    bundle = model_path(model)
    if is_weights_file(bundle) and not bundle.is_dir():
        raise VisoloError(
            f"'{bundle}' holds weights: run visolo export {bundle} --format triton -o {output}"
        )
    options = ReplicaOptions(streams, idle, instances, backend, precision, device, threads)
    stem = model if model in SHIPPED else bundle.resolve().stem
    folder = write_repository(bundle, output, name or stem, options)
    if as_json:
        report = {"repository": str(output), "model": folder.name, "streams": streams}
        typer.echo(json.dumps(report))
        return
    typer.echo(f"{folder}: {streams} streams an instance; {folder / CONFIG} can be changed")
    typer.echo(f"To serve it: tritonserver --model-repository={output.absolute()}")
