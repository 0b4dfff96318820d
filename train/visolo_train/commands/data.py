"""``visolo data``: tools for data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="data",
    help="Tools for data sets.",
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=True,
)


@app.callback()
def data() -> None:
    """Tools for data sets."""


@app.command()
def synth(
    output: Annotated[Path, typer.Argument(help="Folder to make; it must not exist.")],
    videos: Annotated[int, typer.Option(min=1, help="How many videos.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Two sets of one seed are alike.")] = 0,
    frames: Annotated[int, typer.Option(min=1, help="Frames of each video.")] = 16,
    size: Annotated[
        str, typer.Option(metavar="WIDTHxHEIGHT", help="Size of the frames.")
    ] = "336x192",
) -> None:
    """Draw annotated videos of shapes, in YouTube-VIS format.

    Writes OUTPUT/instances.json and OUTPUT/JPEGImages/; the label set is shapes.
    """
    from rich.console import Console
    from rich.progress import Progress

    from visolo_runtime.commands.options import parse_size
    from visolo_train.synthetic_data import write_synthetic_data

    dimensions = parse_size(size)
    console = Console(stderr=True, highlight=False)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("drawing", total=videos)
        write_synthetic_data(
            output, videos, seed, frames, dimensions, lambda done: bar.update(task, completed=done)
        )
    console.print(f"{output}: {videos} videos of {frames} frames", markup=False, soft_wrap=True)
