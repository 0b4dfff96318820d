"""The formats that can be imported, and how each is recognised."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visolo_core.errors import VisoloError
from visolo_core.files import read_json
from visolo_train.importers.coco import read_coco
from visolo_train.importers.frames import Imported, ImportOptions
from visolo_train.importers.labelme import is_labelme, read_labelme


@dataclass(frozen=True)
class Kind:
    """A format."""

    title: str
    read: Callable[[Path, ImportOptions], Imported]


KINDS = {
    "coco": Kind("COCO, with or without track numbers", read_coco),
    "labelme": Kind("LabelMe", read_labelme),
}


def read_source(path: Path, kind: str, options: ImportOptions) -> Imported:
    """Read annotations of another program.

    Args:
        path: a file or a folder.
        kind: a key of ``KINDS``; empty recognises it by its content.
        options: how to read it.

    Raises:
        VisoloError: if the kind is unknown or not recognised, or the source is not of that kind.
    """
    if kind and kind not in KINDS:
        raise VisoloError(f"kind '{kind}' is unknown: choose from {', '.join(KINDS)}")
    if not path.exists():
        raise VisoloError(f"there is no file or folder '{path}'")
    return KINDS[kind or recognise(path)].read(path, options)


def recognise(path: Path) -> str:
    """The kind of a file or folder, a key of ``KINDS``.

    Raises:
        VisoloError: if it is none of them.
    """
    kind = _of_folder(path) if path.is_dir() else _of_file(path)
    if kind is None:
        raise VisoloError(f"cannot tell what kind of annotations '{path}' has: say it with --kind")
    return kind


def _of_file(path: Path) -> str | None:
    if path.suffix.lower() == ".zip":
        raise VisoloError(f"'{path}' is an archive: unpack it and name the folder")
    return _of_json(read_json(path), path) if path.suffix.lower() == ".json" else None


def _of_json(document: Any, path: Path) -> str | None:
    if is_labelme(document):
        return "labelme"
    if not isinstance(document, dict):
        return None
    if isinstance(document.get("images"), list):
        return "coco"
    if isinstance(document.get("videos"), list):
        raise VisoloError(f"'{path}' is in YouTube-VIS format already: there is nothing to import")
    return None


def _of_folder(path: Path) -> str | None:
    for file in [*sorted(path.glob("*.json")), *sorted(path.glob("*/*.json"))]:
        if (kind := _of_json(read_json(file), file)) is not None:
            return kind
    return None
