"""``visolo doctor``: what this machine can run, and what stands in the way."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import typer

from visolo.commands.options import EXIT_CHECK_FAILED, Json

if TYPE_CHECKING:
    from visolo_runtime.diagnosis import Diagnosis
    from visolo_runtime.engines.nvidia import Driver


def doctor(as_json: Json = False) -> None:
    """Check what this machine can run. Exit status 1 if there is a problem."""
    from visolo_runtime.doctor import examine

    diagnosis = examine()
    if as_json:
        typer.echo(json.dumps(diagnosis.as_dict()))
    else:
        print_diagnosis(diagnosis)
    if diagnosis.problems:
        raise typer.Exit(EXIT_CHECK_FAILED)


def print_diagnosis(diagnosis: Diagnosis) -> None:
    """Print it for people."""
    machine = diagnosis.machine
    typer.echo(f"{machine.system}, {machine.cores} cores, Python {machine.python}\n\nNVIDIA")
    driver = diagnosis.nvidia.driver
    typer.echo(f"  {'driver':<18} " + (_cuda(driver) if driver else diagnosis.nvidia.fault))
    for number, gpu in enumerate(driver.gpus if driver else ()):
        memory = f"{gpu.memory_bytes / 1e9:.0f} GB"
        typer.echo(f"  {f'GPU {number}':<18} {gpu.name}, {gpu.architecture}, {memory}")
    typer.echo("\npackages")
    for name, version in diagnosis.packages.items():
        typer.echo(f"  {name:<18} {version or '-'}")
    typer.echo("\nbackends")
    for name, check in diagnosis.backends.items():
        mark = "yes" if check.usable else "no"
        active = ", ".join(check.providers or ())
        typer.echo(f"  {name:<18} {mark:<4} {check.detail} {active}".rstrip())
        for provider, reason in check.refused.items():
            typer.echo(f"  {'':<18} no   {provider}: {reason}")
    typer.echo("")
    for sentence in [*(diagnosis.problems or ["no problems found"]), *diagnosis.notes]:
        typer.echo(sentence)


def _cuda(driver: Driver) -> str:
    return f"supports CUDA {'.'.join(map(str, driver.cuda))}"
