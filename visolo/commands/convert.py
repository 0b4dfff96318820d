"""``visolo convert``: an official checkpoint becomes visolo weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from visolo.commands.options import Json


def convert(
    official: Annotated[Path, typer.Argument(help="Official checkpoint (.pth).")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Weights to write (.safetensors or .pt).")
    ],
    labels: Annotated[
        str | None,
        typer.Option(
            help="Label set: ytvis2019, ytvis2021, ovis, coco, shapes, or a json file with "
            "'categories'; by default the one with as many classes, ytvis2019 for 40."
        ),
    ] = None,
    new_classifier: Annotated[
        bool,
        typer.Option(help="Start a new classifier for --labels, to fine-tune with other classes."),
    ] = False,
    weights: Annotated[
        str,
        typer.Option(
            metavar="model|ema|NAME",
            help="Of a checkpoint with several sets of weights, the one to convert: model, or ema "
            "for a running average, or a set's own name.",
        ),
    ] = "",
    as_json: Json = False,
) -> None:
    """Convert an official checkpoint to visolo weights, with configuration and labels inside."""
    from visolo_core.categories import find_labels
    from visolo_core.errors import VisoloError
    from visolo_core.nn.checkpoint import save_checkpoint
    from visolo_core.nn.official_checkpoint import load_official

    if new_classifier and labels is None:
        raise VisoloError("--new-classifier needs to know its classes: name them with --labels")
    checkpoint, classifier_note = load_official(
        official, find_labels(labels) if labels else None, new_classifier, weights
    )
    save_checkpoint(output, checkpoint)
    header = checkpoint.header
    if as_json:
        report = {
            "output": str(output),
            "classes": header.config.classes,
            "labels": header.labels.name,
            "tensors": len(checkpoint.state),
            "new_classifier": classifier_note is not None,
        }
        typer.echo(json.dumps(report))
    if classifier_note:
        typer.echo(f"visolo: {classifier_note}", err=True)
    guess = "" if labels else " (from its class count; name another with --labels)"
    typer.echo(
        f"{output}: {len(checkpoint.state)} tensors, {header.config.classes} classes, "
        f"labels {header.labels.name}{guess}",
        err=True,
    )
