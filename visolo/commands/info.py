"""``visolo info``: what a bundle or a weights file contains."""

from __future__ import annotations

import json
from typing import Any

import typer

from visolo.commands.options import Json, ModelName


def info(
    model: ModelName,
    as_json: Json = False,
) -> None:
    """Show what a bundle or a weights file contains; a bundle's checksums are verified."""
    from visolo_runtime.model_info import describe
    from visolo_runtime.models.shipped import model_path

    report = describe(model_path(model)).as_dict()
    if as_json:
        typer.echo(json.dumps(report))
        return
    for name, value in report.items():
        typer.echo(f"{name + ':':<14} {_line(value)}")


def _line(value: Any) -> str:
    """A value on one line, with the names of a label set cut to five."""
    match value:
        case {"ids": ids, "names": names, "name": name}:
            listed = ", ".join(str(each) for each in names[:5])
            return f"{name}, {len(ids)} classes ({listed}{', ...' if len(names) > 5 else ''})"
        case {"frame": {"inputs": _}}:
            return ", ".join(_signature(*graph) for graph in value.items())
        case dict():
            return ", ".join(f"{name} {_short(each)}" for name, each in value.items())
        case list():
            return "; ".join(_line(each) for each in value)
        case None:
            return "none"
        case _:
            return str(value)


def _signature(graph: str, spec: dict[str, Any]) -> str:
    names = (", ".join(tensor["name"] for tensor in spec[side]) for side in ("inputs", "outputs"))
    return f"{graph}({') -> ('.join(names)})"


def _short(value: Any) -> str:
    match value:
        case [_, *_] if all(isinstance(each, int) for each in value):
            return "x".join(map(str, value))
        case {"sha256": checksum, "size": size}:
            return f"{size:,} bytes {checksum[:12]}"
        case {"frame": _, "memory": _, "decode": _}:
            return "/".join(value.values())
        case dict():
            return ", ".join(f"{name} {_short(each)}" for name, each in value.items())
        case _:
            return str(value)
