"""Label Studio's json export of image projects: brush masks, polygons, rectangles and ellipses.

Coordinates are per cent of the picture's sides. Of several annotations of a task, the ground truth
is read, and otherwise the last. Objects have a number where the regions of the project have a field
named ``track_id`` (``<Number name="track_id" perRegion="true" .../>``).
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from visolo_core.errors import VisoloError
from visolo_core.files import read_json
from visolo_core.masks import Rle, encode_rle
from visolo_runtime.sources.frame_names import IMAGE_SUFFIXES
from visolo_runtime.sources.pictures import natural_order
from visolo_train.importers.brush_rle import decode_brush
from visolo_train.importers.frames import (
    AnnotatedFrame,
    AnnotatedShape,
    Imported,
    ImportOptions,
    one_json,
    reading,
)
from visolo_train.importers.pictures import PictureFolder, folder_of
from visolo_train.importers.rasters import Size, ellipse_mask, polygon_mask

_TRACK_FIELD = "track_id"
_UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-")
_SHAPES = ("brush", "polygon", "rectangle", "ellipse")


def is_label_studio(document: Any) -> bool:
    """Whether a json document is one of Label Studio's exports."""
    return (
        isinstance(document, list)
        and bool(document)
        and isinstance(document[0], dict)
        and isinstance(document[0].get("data"), dict)
        and isinstance(document[0].get("annotations"), list)
    )


def read_label_studio(path: Path, options: ImportOptions) -> Imported:
    """Read a json export.

    Raises:
        VisoloError: if it cannot be read, a task violates the format, or a picture is missing or of
            another size.
    """
    path = one_json(path)
    document = read_json(path)
    if not is_label_studio(document):
        raise VisoloError(
            f"'{path}' is not a json export of Label Studio: it is not a list of tasks with 'data' "
            "and 'annotations'"
        )
    usual = [path.parent / "images", path.parent]
    pictures = PictureFolder(folder_of(usual, options.images))
    left_out: Counter[str] = Counter()
    frames = []
    for place, task in enumerate(document):
        where = f"'{path}', task[{place}]"
        with reading(where):
            annotation = _annotation(task["annotations"])
            if annotation is None:
                left_out["task"] += 1
                continue
            name = pictures.find(_picture(task["data"], pictures))
            size = pictures.size(name)
            shapes = _shapes(annotation["result"], size, where, options, left_out)
        folder = PurePosixPath(name).parent.as_posix()
        frames.append(AnnotatedFrame(folder, name, size, tuple(shapes)))
    frames.sort(key=lambda frame: natural_order(frame.file_name))
    notes = [_note(kind, count) for kind, count in left_out.items()]
    return Imported(pictures.folder, tuple(frames), notes=tuple(notes))


def _note(kind: str, count: int) -> str:
    if kind == "task":
        return f"{count} tasks without an annotation are left out"
    if kind == "rectangle":
        return f"{count} rectangles are left out: --boxes reads them as masks"
    return f"{count} results of type {kind} are left out: they have no area in a picture"


def _annotation(annotations: list[dict[str, Any]]) -> dict[str, Any] | None:
    usable = [each for each in annotations if not each.get("was_cancelled")]
    truth = [each for each in usable if each.get("ground_truth")]
    chosen = truth or usable
    return chosen[-1] if chosen else None


def _picture(data: dict[str, Any], pictures: PictureFolder) -> str:
    """The name of a task's picture.

    The address is a path of the server, of its storage or of the web. Files that were uploaded
    have eight digits before their name.
    """
    for value in data.values():
        if not isinstance(value, str):
            continue
        address = urlsplit(value)
        stored = parse_qs(address.query).get("d")
        path = PurePosixPath(unquote(stored[0] if stored else address.path).lstrip("/"))
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            continue
        upload = _UPLOAD_PREFIX.match(path.name)
        if upload and not (pictures.folder / path.name).is_file():
            path = PurePosixPath(path.name[upload.end() :])
        return path.as_posix()
    raise ValueError("its data name no picture")


def _shapes(
    results: list[dict[str, Any]],
    size: Size,
    where: str,
    options: ImportOptions,
    left_out: Counter[str],
) -> list[AnnotatedShape]:
    """The shapes of an annotation. Label and number of a region may be results of their own."""
    regions: dict[str, _Region] = {}
    for place, result in enumerate(results):
        with reading(f"{where}, result[{place}]"):
            kind = str(result["type"])
            region = regions.setdefault(str(result.get("id", place)), _Region())
            value = result.get("value", {})
            for name, chosen in value.items():
                if name.endswith("labels") and chosen:
                    region.label = _label(chosen)
            if result.get("from_name") == _TRACK_FIELD:
                region.number = _number(value)
                continue
            shape = kind.removesuffix("labels")
            if shape in _SHAPES and (shape != "rectangle" or options.boxes):
                region.mask = _mask(shape, result, value, size)
            elif kind != "labels":
                left_out[shape or kind] += 1
    shapes = []
    for name, region in regions.items():
        if region.mask is None:
            continue
        if region.label is None:
            raise VisoloError(f"{where}, region '{name}' has no label")
        shapes.append(AnnotatedShape(region.label, region.mask, region.number))
    return shapes


class _Region:
    """What the results of one id say."""

    mask: Rle | None = None
    label: str | None = None
    number: str | None = None


def _label(chosen: Any) -> str:
    """The first of the labels that a region has."""
    if not isinstance(chosen, list) or not isinstance(chosen[0], str):
        raise TypeError("its labels are not a list of names")
    return chosen[0]


def _number(value: dict[str, Any]) -> str | None:
    for name in ("number", "text", "choices"):
        if name in value:
            content = value[name]
            text = str(content[0] if isinstance(content, list) else content).strip()
            return text or None
    return None


def _mask(shape: str, result: dict[str, Any], value: dict[str, Any], size: Size) -> Rle:
    stated = int(result["original_height"]), int(result["original_width"])
    if stated != size:
        raise ValueError(
            f"it is of a picture of {stated[1]}x{stated[0]}, this one is {size[1]}x{size[0]}"
        )
    if result.get("image_rotation"):
        raise ValueError("its picture is turned in Label Studio, which is not supported")
    if shape == "brush":
        return encode_rle(decode_brush(value["rle"], size))
    percent = np.array([size[1], size[0]]) / 100
    if shape == "polygon":
        return polygon_mask(np.array(value["points"], np.float64) * percent, size)
    degrees = float(value.get("rotation", 0))
    x, y = (np.array([value["x"], value["y"]], np.float64) * percent).tolist()
    if shape == "ellipse":
        radii = np.array([value["radiusX"], value["radiusY"]], np.float64) * percent
        return ellipse_mask([x, y, *radii.tolist()], size, degrees)
    sides = np.array([value["width"], value["height"]], np.float64) * percent
    # Rectangles are turned around their upper left corner.
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    along, down = np.array([cos, sin]) * sides[0], np.array([-sin, cos]) * sides[1]
    corner = np.array([x, y])
    return polygon_mask(
        np.array([corner, corner + along, corner + along + down, corner + down]), size
    )
