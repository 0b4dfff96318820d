"""``visolo web``: a page on which a model runs in the visitor's browser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from visolo.commands.options import Json
from visolo_runtime.models import HUB
from visolo_runtime.models.shipped import SHIPPED


def web(
    output: Annotated[Path, typer.Argument(help="Folder to write; a page there is replaced.")],
    model: Annotated[
        str,
        typer.Option(
            metavar="MODEL",
            help=f"For cameras and video files: {', '.join(SHIPPED)}, a bundle or {HUB}OWNER/NAME.",
        ),
    ] = "everyday",
    runtime: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the npm package onnxruntime-web; by default "
            "node_modules/onnxruntime-web."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a static page that runs a model in the visitor's browser.

    Visitors watch a drawn scene, their camera or a video file being tracked. No picture leaves
    their machine. Any server of files will do; browsers open cameras over HTTPS and on localhost.
    """
    from visolo_runtime.web.page_folder import DEFAULT_RUNTIME, write_page

    page = write_page(output, model, runtime or DEFAULT_RUNTIME)
    if as_json:
        report = {
            "output": str(page.folder),
            "models": page.models,
            "first_load_bytes": page.first_load_bytes,
        }
        typer.echo(json.dumps(report))
        return
    typer.echo(f"{page.folder}: models {', '.join(page.models)}")
    typer.echo(f"A first visit loads {page.first_load_bytes / 1e6:.1f} MB.")
    typer.echo(f"To look at it: python3 -m http.server --bind 127.0.0.1 --directory {page.folder}")
