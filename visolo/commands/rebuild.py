"""``visolo rebuild``: TensorRT engines for this machine's library and GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def rebuild(
    bundle: Annotated[Path, typer.Argument(help="A bundle with ONNX graphs.")],
    format: Annotated[
        str, typer.Option(metavar="FORMAT", help="tensorrt or tensorrt-rtx.")
    ] = "tensorrt",
    precision: Annotated[
        str,
        typer.Option(
            help="fp32, fp16 or bf16; by default that of the bundle's first engines or ONNX graphs."
        ),
    ] = "",
    target: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SM[,SM...]",
            help="GPUs that tensorrt-rtx builds for, such as sm86,sm89; by default this machine's.",
        ),
    ] = None,
) -> None:
    """Build TensorRT engines from a bundle's ONNX graphs, into it or in place of those it has.

    An engine runs only with the version of TensorRT that built it and, in format tensorrt, on the
    GPU that it was built on. The bundle keeps its other graphs; when engines are replaced, the
    figures of its last verification are removed.
    """
    from rich.console import Console

    from visolo_export.formats import listed
    from visolo_export.rebuild import rebuild_engines

    console = Console(stderr=True, highlight=False)
    with console.status("building engines"):
        engines = rebuild_engines(bundle, format, precision, listed(target or []))
    console.print(
        f"{bundle}: engines of {format} {engines.library} in {engines.precision}"
        + (f" for {', '.join(engines.targets)}" if engines.targets else ""),
        markup=False,
        soft_wrap=True,
    )
