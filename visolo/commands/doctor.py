"""``visolo doctor``: what this machine can run, and what stands in the way."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import typer

from visolo.commands.options import EXIT_CHECK_FAILED, Json

if TYPE_CHECKING:
    from visolo_runtime.doctor import Diagnosis


def doctor(as_json: Json = False) -> None:
    """Check what this machine can run. Exit status 1 if there is a problem."""
    from visolo_runtime.doctor import examine

    diagnosis = examine()
    if as_json:
        typer.echo(json.dumps(diagnosis.as_dict()))
    else:
        _print(diagnosis)
    if diagnosis.problems:
        raise typer.Exit(EXIT_CHECK_FAILED)


def _print(diagnosis: Diagnosis) -> None:
    machine = diagnosis.machine
    typer.echo(f"{machine.system}, {machine.cores} cores, Python {machine.python}\n\npackages")
    for name, version in diagnosis.packages.items():
        typer.echo(f"  {name:<16} {version or '-'}")
    typer.echo("\nbackends")
    for name, check in diagnosis.backends.items():
        mark = "yes" if check.usable else "no"
        active = ", ".join(check.providers or ())
        typer.echo(f"  {name:<16} {mark:<4} {check.detail} {active}".rstrip())
    typer.echo("")
    for problem in diagnosis.problems or ["no problems found"]:
        typer.echo(problem)
