"""LabelMe's json files: one a picture, with polygons, rectangles, circles and masks.

``group_id`` numbers objects: shapes of one label and one number are the same object, in a picture
and from picture to picture of a folder.
"""

from __future__ import annotations

import base64
import binascii
import io
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from visolo_core.errors import VisoloError
from visolo_core.files import read_json
from visolo_core.masks import Masks, Rle
from visolo_runtime.sources.pictures import natural_order
from visolo_train.importers.frames import (
    AnnotatedFrame,
    AnnotatedShape,
    Imported,
    ImportOptions,
    reading,
)
from visolo_train.importers.pictures import PictureFolder, folder_of
from visolo_train.importers.rasters import Size, box_mask, ellipse_mask, placed_mask, polygon_mask


def is_labelme(document: Any) -> bool:
    """Whether a json document is one of LabelMe's."""
    return isinstance(document, dict) and {"shapes", "imagePath"} <= document.keys()


def read_labelme(path: Path, options: ImportOptions) -> Imported:
    """Read a json file of LabelMe, or all of them in a folder and in the folders below it.

    Raises:
        VisoloError: if there is none, one cannot be read or violates the format, or a picture is
            missing or of another size.
    """
    folder = path if path.is_dir() else path.parent
    files = sorted(path.rglob("*.json"), key=lambda file: natural_order(file.as_posix()))
    pictures = PictureFolder(folder_of([folder], options.images))
    left_out: Counter[str] = Counter()
    frames = []
    for file in files if path.is_dir() else [path]:
        document = read_json(file)
        if is_labelme(document):
            frames.append(_frame(file, document, pictures, options, left_out))
        elif not path.is_dir():
            raise VisoloError(f"'{file}' is not a file of LabelMe: it has no shapes and imagePath")
    if not frames:
        raise VisoloError(f"'{path}' has no json file of LabelMe")
    frames.sort(key=lambda frame: natural_order(frame.file_name))
    notes = [_note(kind, count) for kind, count in left_out.items()]
    return Imported(pictures.folder, tuple(frames), notes=tuple(notes))


def _note(kind: str, count: int) -> str:
    if kind == "rectangle":
        return f"{count} rectangles are left out: --boxes reads them as masks"
    return f"{count} shapes of type {kind} are left out: they have no area"


def _frame(
    file: Path,
    document: dict[str, Any],
    pictures: PictureFolder,
    options: ImportOptions,
    left_out: Counter[str],
) -> AnnotatedFrame:
    with reading(f"'{file}'"):
        name = pictures.find(_inside_pictures(file, str(document["imagePath"]), pictures))
        height, width = document.get("imageHeight"), document.get("imageWidth")
        stated = None if height is None or width is None else (int(height), int(width))
        size = pictures.size(name, stated)
        entries = document["shapes"]
        if not isinstance(entries, list):
            raise TypeError("its shapes are not a list")
    shapes = []
    for place, entry in enumerate(entries):
        with reading(f"'{file}', shapes[{place}]"):
            kind = str(entry.get("shape_type", "polygon"))
            mask = _mask(kind, entry, size, options)
            if mask is None:
                left_out[kind] += 1
                continue
            label, group = entry["label"], entry.get("group_id")
            if not isinstance(label, str):
                raise TypeError("its label is not text")
            identity = None if group is None else str(group)
            shapes.append(AnnotatedShape(label, mask, identity))
    return AnnotatedFrame(PurePosixPath(name).parent.as_posix(), name, size, tuple(shapes))


def _inside_pictures(file: Path, written: str, pictures: PictureFolder) -> str:
    """LabelMe writes the way from the json file to the picture, which may lead through ``..``."""
    relative = written.replace("\\", "/")
    beside = (file.parent / relative).resolve()
    folder = pictures.folder.resolve()
    return beside.relative_to(folder).as_posix() if beside.is_relative_to(folder) else relative


def _mask(kind: str, entry: dict[str, Any], size: Size, options: ImportOptions) -> Rle | None:
    """None for a shape that has no area."""
    if kind in ("point", "points", "line", "linestrip"):
        return None
    if kind == "rectangle" and not options.boxes:
        return None
    points = np.asarray(entry["points"], np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
        raise ValueError("its points are not a list of x and y")
    if kind == "polygon":
        return polygon_mask(points, size)
    if kind == "mask":
        left, top = (round(corner) for corner in points.min(axis=0).tolist())
        return placed_mask(_stored_mask(entry["mask"]), left, top, size)
    if kind not in ("rectangle", "circle"):
        raise ValueError(f"its type '{kind}' is unknown")
    if len(points) < 2:
        raise ValueError(f"its {kind} needs two points")
    if kind == "rectangle":
        return box_mask([*points.min(axis=0).tolist(), *points.max(axis=0).tolist()], size)
    radius = float(np.hypot(*(points[1] - points[0])))
    return ellipse_mask([*points[0].tolist(), radius, radius], size)


def _stored_mask(text: Any) -> Masks:
    """bool [H, W] of a png file in base64."""
    try:
        with Image.open(io.BytesIO(base64.b64decode(text, validate=True))) as image:
            return np.asarray(image.convert("L")) > 0
    except (OSError, SyntaxError, binascii.Error, Image.DecompressionBombError) as error:
        raise ValueError(f"its mask is not a picture: {error}") from error
