"""COCO's json: with track numbers a video, as CVAT and others write it; otherwise images.

A track number is an annotation's ``track_id`` or ``instance_id``, or CVAT's attribute ``track_id``.
Images belong to the video that their ``video_id`` says, and otherwise to that of their folder.
"""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path, PurePosixPath
from typing import Any

from visolo_core.errors import VisoloError
from visolo_core.files import read_json
from visolo_runtime.sources.pictures import natural_order
from visolo_train.data.segmentations import to_rle
from visolo_train.importers.frames import (
    AnnotatedFrame,
    AnnotatedShape,
    Imported,
    ImportOptions,
    one_json,
    reading,
)
from visolo_train.importers.pictures import PictureFolder, folder_of
from visolo_train.importers.rasters import Size, box_mask

_FRAME_NUMBERS = ("frame_id", "frame_index", "frame_number")
_TRACK_NUMBERS = ("track_id", "instance_id")


def read_coco(path: Path, options: ImportOptions) -> Imported:
    """Read a json file in COCO format, or the folder with ``annotations/`` that CVAT exports.

    Raises:
        VisoloError: if it cannot be read, an entry violates the format, or a picture is missing or
            of another size.
    """
    path = one_json(path)
    document = read_json(path)
    for name in ("images", "annotations", "categories"):
        if not isinstance(document, dict) or not isinstance(document.get(name), list):
            raise VisoloError(f"'{path}' is not in COCO format: it has no list '{name}'")
    with reading(f"'{path}', categories"):
        labels = {int(entry["id"]): str(entry["name"]) for entry in document["categories"]}
    parent = path.parent
    usual = [parent / "JPEGImages", parent / "images", parent.parent / "images", parent]
    pictures = PictureFolder(folder_of(usual, options.images))
    images = _images(document, path, pictures)
    reader = _Shapes(labels, options)
    for place, entry in enumerate(document["annotations"]):
        with reading(f"'{path}', annotations[{place}]"):
            image = images.get(int(entry["image_id"]))
            if image is None:
                raise ValueError(f"there is no image {entry['image_id']}")
            image.shapes += reader.read(entry, image.size)
    kept = [image for image in images.values() if image.shapes or options.empty_frames]
    kept.sort(key=lambda image: (natural_order(image.video), image.order))
    frames = [AnnotatedFrame(i.video, i.name, i.size, tuple(i.shapes)) for i in kept]
    notes = reader.notes()
    if len(kept) < len(images):
        notes.append(
            f"{len(images) - len(kept)} images without an annotation are left out: "
            "--empty-frames keeps them, as frames without any object"
        )
    return Imported(pictures.folder, tuple(frames), tuple(labels.items()), tuple(notes))


class _Image:
    """An image and what is found in it."""

    def __init__(
        self, entry: dict[str, Any], videos: dict[Any, str], pictures: PictureFolder
    ) -> None:
        self.name = pictures.find(str(entry["file_name"]))
        self.size = pictures.size(self.name, (int(entry["height"]), int(entry["width"])))
        number = next((entry[name] for name in _FRAME_NUMBERS if name in entry), None)
        self.order = (0 if number is None else int(number), natural_order(self.name))
        folder = PurePosixPath(self.name).parent.as_posix()
        self.video = videos.get(entry["video_id"], "") if "video_id" in entry else folder
        self.shapes: list[AnnotatedShape] = []


def _images(document: dict[str, Any], path: Path, pictures: PictureFolder) -> dict[int, _Image]:
    with reading(f"'{path}', videos"):
        listed = document.get("videos", [])
        videos = {entry["id"]: str(entry.get("name", entry["id"])) for entry in listed}
    images: dict[int, _Image] = {}
    for place, entry in enumerate(document["images"]):
        with reading(f"'{path}', images[{place}]"):
            image = _Image(entry, videos, pictures)
            if images.setdefault(int(entry["id"]), image) is not image:
                raise ValueError(f"its id {entry['id']} is that of another image already")
    return images


class _Shapes:
    """Reads annotations, and counts what it leaves out."""

    def __init__(self, labels: dict[int, str], options: ImportOptions) -> None:
        self._labels, self._options = labels, options
        self._boxes = self._crowds = self._nothing = self._objects = 0

    def read(self, entry: dict[str, Any], size: Size) -> list[AnnotatedShape]:
        """The shape of an annotation, if it has one."""
        category = int(entry["category_id"])
        if category not in self._labels:
            raise ValueError(f"there is no category {category}")
        mask = entry.get("segmentation")
        if mask and mask != [[]]:
            rle = to_rle(mask, *size)
        elif not entry.get("bbox"):
            self._nothing += 1
            return []
        elif self._options.boxes:
            left, top, width, height = (float(number) for number in entry["bbox"])
            rle = box_mask((left, top, left + width, top + height), size)
        else:
            self._boxes += 1
            return []
        crowd = bool(entry.get("iscrowd", 0)) and not self._options.crowd_objects
        self._crowds += crowd
        self._objects += not crowd
        return [AnnotatedShape(self._labels[category], rle, _identity(entry), crowd)]

    def notes(self) -> list[str]:
        notes = []
        if self._boxes:
            notes.append(f"{self._boxes} boxes are left out: --boxes reads them as masks")
        if self._nothing:
            notes.append(f"{self._nothing} annotations have neither a mask nor a box")
        if self._crowds:
            notes.append(
                f"{self._crowds} masks are crowds, which are not trained on: if this is CVAT's "
                "export of masks that were drawn with its brush, import it with --crowd-objects"
            )
        return notes


def _identity(entry: dict[str, Any]) -> Hashable | None:
    attributes = entry.get("attributes")
    for place in (entry, attributes if isinstance(attributes, dict) else {}):
        for name in _TRACK_NUMBERS:
            number = place.get(name)
            if isinstance(number, (int, str)) and number != "" and not isinstance(number, bool):
                return str(number)
    return None
