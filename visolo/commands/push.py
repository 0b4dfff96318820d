"""``visolo push``: a bundle on the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def push(
    bundle: Annotated[Path, typer.Argument(help="A bundle.")],
    address: Annotated[
        str, typer.Argument(metavar="ADDRESS", help="hf://OWNER/NAME, or with @BRANCH.")
    ],
    card: Annotated[
        Path | None, typer.Option(help="The card (Markdown); by default made from the manifest.")
    ] = None,
    private: Annotated[
        bool, typer.Option("--private", help="Hide a repository that is created by this.")
    ] = False,
) -> None:
    """Put a bundle and its card into a model repository, which is created if there is none.

    Every command takes its address as a model from then on. HF_TOKEN or 'hf auth login' says who
    you are.
    """
    from visolo_runtime.models.hub import push_bundle

    typer.echo(push_bundle(bundle, address, card, private))
