"""``visolo rebuild``: TensorRT engines for the library and the GPU that are here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def rebuild(
    bundle: Annotated[Path, typer.Argument(help="A bundle with TensorRT engines.")],
    format: Annotated[
        str, typer.Option(metavar="FORMAT", help="tensorrt or tensorrt-rtx.")
    ] = "tensorrt",
    precision: Annotated[
        str, typer.Option(help="fp32 or fp16; the first that the bundle has if not said.")
    ] = "",
    target: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SM[,SM...]",
            help="GPUs that tensorrt-rtx builds for, such as sm86,sm89; the present one if not "
            "said.",
        ),
    ] = None,
) -> None:
    """Build a bundle's TensorRT engines again from its ONNX graphs.

    An engine runs on the version of TensorRT that built it and, with tensorrt, on the GPU that it
    was built on. The bundle keeps its other graphs; the figures of its last verification go.
    """
    from rich.console import Console

    from visolo_core.errors import VisoloError
    from visolo_export.formats import listed
    from visolo_export.rebuild import rebuild_engines
    from visolo_runtime.bundle import Bundle
    from visolo_runtime.engines.tensorrt.library import LIBRARIES

    if format not in LIBRARIES:
        raise VisoloError(f"format '{format}' has no engines: choose from {', '.join(LIBRARIES)}")
    opened = Bundle(bundle)
    graphs = opened.graphs(format, precision)
    console = Console(stderr=True, highlight=False)
    with console.status("building engines"):
        rebuilt = rebuild_engines(opened, graphs, tuple(listed(target or [])))
    found = rebuilt.graphs(format, graphs.precision)
    console.print(
        f"{bundle}: engines of {format} {found.library} in {found.precision}"
        + (f" for {', '.join(found.targets)}" if found.targets else ""),
        markup=False,
        soft_wrap=True,
    )
