"""The formats that can be imported, and how each is recognised."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from PIL import Image

from visolo_core.errors import VisoloError
from visolo_core.files import read_json
from visolo_train.importers.coco import read_coco
from visolo_train.importers.cvat import read_cvat
from visolo_train.importers.frames import Imported, ImportOptions
from visolo_train.importers.label_studio import is_label_studio, read_label_studio
from visolo_train.importers.labelme import is_labelme, read_labelme
from visolo_train.importers.layers import cut_covered
from visolo_train.importers.mots import read_mots, read_mots_text, text_files
from visolo_train.importers.palette import is_youtube_vos, read_davis, read_youtube_vos
from visolo_train.importers.xml_elements import root_name

Reader = Callable[[Path, ImportOptions], Imported]
KINDS: dict[str, Reader] = {
    "cvat": read_cvat,
    "coco": read_coco,
    "label-studio": read_label_studio,
    "labelme": read_labelme,
    "davis": read_davis,
    "youtube-vos": read_youtube_vos,
    "mots": read_mots,
    "mots-txt": read_mots_text,
}
"""The reader of each kind."""


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
    imported = KINDS[kind or recognise(path)](path, options)
    if options.cut_covered:
        return replace(imported, frames=tuple(cut_covered(frame) for frame in imported.frames))
    return imported


def recognise(path: Path) -> str:
    """The kind of a file or folder, a key of ``KINDS``.

    Raises:
        VisoloError: if it is none of them.
    """
    kind = _of_folder(path) if path.is_dir() else _of_file(path)
    if kind is None:
        raise VisoloError(
            f"cannot tell what kind of annotations '{path}' has: say it with --kind, one of "
            f"{', '.join(KINDS)}"
        )
    return kind


def _of_file(path: Path) -> str | None:
    suffix = path.suffix.lower()
    if suffix == ".zip":
        raise VisoloError(f"'{path}' is an archive: unpack it and name the folder")
    if suffix == ".json":
        return _of_json(path)
    if suffix == ".txt":
        return "mots-txt"
    return "cvat" if suffix == ".xml" and root_name(path) == "annotations" else None


def _of_json(path: Path) -> str | None:
    document = read_json(path)
    if is_labelme(document):
        return "labelme"
    if is_label_studio(document):
        return "label-studio"
    if is_youtube_vos(document):
        return "youtube-vos"
    if isinstance(document, dict) and isinstance(document.get("images"), list):
        return "coco"
    if isinstance(document, dict) and isinstance(document.get("videos"), list):
        raise VisoloError(f"'{path}' is in YouTube-VIS format already: there is nothing to import")
    return None


def _of_folder(path: Path) -> str | None:
    for file in [path / "annotations.xml", path / "meta.json"]:
        if file.is_file() and (kind := _of_file(file)) is not None:
            return kind
    if path.name == "instances" or any(each.is_dir() for each in path.rglob("instances")):
        return "mots"
    if (path / "Annotations").is_dir():
        return "davis"
    for file in _some(path, ".json"):
        if (kind := _of_json(file)) is not None:
            return kind
    if text_files(path):
        return "mots-txt"
    return next((_of_picture(file) for file in _some(path, ".png")), None)


def _of_picture(path: Path) -> str | None:
    try:
        with Image.open(path) as image:
            return {"P": "davis", "L": "davis", "1": "davis", "I;16": "mots"}.get(image.mode)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def _some(folder: Path, suffix: str) -> Iterator[Path]:
    """Files in a folder and in those below it."""
    yield from (each for each in sorted(folder.rglob(f"*{suffix}")) if each.is_file())
