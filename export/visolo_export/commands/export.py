"""``visolo export``: weights become a bundle."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from visolo_runtime.commands.options import Json, Settings, changed


class Format(StrEnum):
    """What the graphs are written as."""

    onnx = "onnx"


def export(
    weights: Annotated[Path, typer.Argument(help="Weights (.safetensors, .pt).")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Bundle to write, a directory.")],
    format: Annotated[Format, typer.Option(help="Format of the graphs.")] = Format.onnx,
    memory_slots: Annotated[
        int | None,
        typer.Option(min=0, help="Stored frames that a frame can read; 9 as in the paper."),
    ] = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Turn weights into a bundle: three graphs and a manifest in one directory."""
    from dataclasses import replace

    from rich.console import Console

    from visolo_core.checkpoint import load_checkpoint
    from visolo_core.config import InferenceConfig
    from visolo_export.bundle_writer import write_bundle
    from visolo_runtime.bundle import file_entry

    inference = changed(InferenceConfig(), settings)
    if memory_slots is not None:
        inference = replace(inference, memory_slots=memory_slots)
    checkpoint = load_checkpoint(weights)
    console = Console(stderr=True, highlight=False)
    with console.status("") as status:
        manifest = write_bundle(
            checkpoint,
            output,
            inference,
            file_entry(weights).sha256,
            report=lambda graph: status.update(f"exporting the {graph} graph"),
        )
    size = sum(entry.size for entry in manifest.files.values())
    if as_json:
        typer.echo(json.dumps({"output": str(output), "format": format.value, "bytes": size}))
    console.print(
        f"{output}: {format.value}, {size / 1e6:.1f} MB, {manifest.slots} memory slots, "
        f"{manifest.model.classes} classes",
        markup=False,
        soft_wrap=True,
    )
