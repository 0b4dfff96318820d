"""``visolo info``: what a bundle or a weights file says of itself."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from visolo.commands.options import Json


def info(
    path: Annotated[Path, typer.Argument(help="A bundle, or weights (.safetensors, .pt).")],
    as_json: Json = False,
) -> None:
    """Say what is in a bundle or a weights file; a bundle's checksums are verified."""
    found = describe(path)
    if as_json:
        typer.echo(json.dumps(found))
        return
    for name, value in found.items():
        typer.echo(f"{name + ':':<14} {_line(value)}")


def describe(path: Path) -> dict[str, Any]:
    """Kind, configuration, labels and files of a model, ready for json.

    Raises:
        VisoloError: if it is neither a bundle nor weights, or is damaged.
    """
    from visolo_core.checkpoint_header import SAFETENSORS, read_header
    from visolo_core.errors import VisoloError

    if path.is_dir():
        return _describe_bundle(path)
    if not path.exists():
        raise VisoloError(f"there is no model '{path}'")
    # The header of a safetensors file can be read on machines without PyTorch.
    if path.suffix == SAFETENSORS:
        header = read_header(path)
    else:
        from visolo_core.nn.checkpoint import load_checkpoint

        header = load_checkpoint(path).header
    return {
        "kind": "weights",
        "path": str(path),
        "model": asdict(header.config),
        "labels": asdict(header.labels),
        "bytes": path.stat().st_size,
    }


def _describe_bundle(path: Path) -> dict[str, Any]:
    from visolo_runtime.bundle import Bundle

    bundle = Bundle(path)
    bundle.check_files()
    manifest = bundle.manifest.model_dump(mode="json")
    return {
        "kind": "bundle",
        "path": str(path),
        **manifest,
        "bytes": sum(entry.size for entry in bundle.manifest.files.values()),
    }


def _line(value: Any) -> str:
    """A value in one line, long lists cut."""
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
