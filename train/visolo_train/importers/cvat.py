"""CVAT's XML, version 1.1: "CVAT for video", which has tracks, and "CVAT for images".

CVAT writes a shape for every frame of a track, those between key frames too, and one that is
``outside`` where the object is not to be seen. It draws masks in single frames only; those of one
object are found by an attribute ``track_id`` of their label, or by their group.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import Element

from visolo_core.cvat import CvatMask, decode_cvat
from visolo_core.errors import VisoloError
from visolo_core.masks import Rle
from visolo_runtime.sources.pictures import natural_order
from visolo_train.importers.cvat_frames import CvatTask, FrameFiles
from visolo_train.importers.frames import (
    AnnotatedFrame,
    AnnotatedShape,
    Imported,
    ImportOptions,
    reading,
)
from visolo_train.importers.pictures import PictureFolder, folder_of
from visolo_train.importers.rasters import Size, box_mask, ellipse_mask, placed_mask, polygon_mask
from visolo_train.importers.xml_elements import elements

_WITHOUT_AREA = ("points", "polyline", "cuboid", "skeleton", "tag")


@dataclass
class _Frame:
    video: str
    name: str
    size: Size
    order: tuple[object, ...]
    shapes: list[AnnotatedShape] = field(default_factory=list)


def read_cvat(path: Path, options: ImportOptions) -> Imported:
    """Read ``annotations.xml``, or the folder with it and ``images/`` that CVAT exports.

    Raises:
        VisoloError: if it cannot be read, an element violates the format, or a frame is missing or
            of another size.
    """
    file = path / "annotations.xml" if path.is_dir() else path
    usual = [file.parent / "images", file.parent / "JPEGImages", file.parent]
    reader = _Reader(file, PictureFolder(folder_of(usual, options.images)), options)
    for element in elements(file):
        reader.read(element)
    return reader.finish()


class _Reader:
    def __init__(self, file: Path, pictures: PictureFolder, options: ImportOptions) -> None:
        self._file, self._pictures, self._options = file, pictures, options
        self._task = CvatTask()
        self._files = FrameFiles(pictures, self._task)
        self._frames: dict[str, _Frame] = {}
        self._left_out: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()

    def read(self, element: Element) -> None:
        """Read an element below the root."""
        place = f"'{self._file}', {element.tag}[{self._counts[element.tag]}]"
        self._counts[element.tag] += 1
        with reading(place):
            if element.tag == "meta":
                self._task = CvatTask.of(element)
                self._files = FrameFiles(self._pictures, self._task)
            elif element.tag == "track":
                self._track(element)
            elif element.tag == "image":
                self._image(element)
            elif element.tag not in ("version", "dumped"):
                raise ValueError(f"CVAT has no element '{element.tag}' here")

    def finish(self) -> Imported:
        """Everything that was read."""
        if not self._counts["meta"]:
            raise VisoloError(f"'{self._file}' is not CVAT's XML: it has no element 'meta'")
        notes = [_note(kind, count) for kind, count in self._left_out.items()]
        if self._options.empty_frames:
            if self._counts["track"]:
                for number in self._task.stated_numbers():
                    self._numbered(number)
            kept = list(self._frames.values())
        else:
            kept = [frame for frame in self._frames.values() if frame.shapes]
            if len(kept) < len(self._frames):
                notes.append(
                    f"{len(self._frames) - len(kept)} frames without a shape are left out: "
                    "--empty-frames keeps them, as frames without any object"
                )
        kept.sort(key=lambda frame: (natural_order(frame.video), frame.order))
        frames = [AnnotatedFrame(f.video, f.name, f.size, tuple(f.shapes)) for f in kept]
        labels = tuple(enumerate(self._task.labels, start=1))
        return Imported(self._pictures.folder, tuple(frames), labels, tuple(notes))

    # ------------------------------------------------------------------------ CVAT for video

    def _track(self, track: Element) -> None:
        if track.get("task_id") is not None:
            raise ValueError(
                "it belongs to a project, whose tasks number their frames alike: export the tasks "
                "one by one"
            )
        label = self._label(track.attrib["label"])
        visible = [shape for shape in track if shape.get("outside", "0") != "1"]
        shared: Hashable | None = None
        if len(visible) > 1:
            shared = ("track", track.attrib["id"])
        elif track.get("group_id", "0") != "0":
            shared = ("group", track.attrib["group_id"])
        for shape in visible:
            frame = self._numbered(int(shape.attrib["frame"]))
            self._add(frame, shape, label, shared)

    def _numbered(self, number: int) -> _Frame:
        """The frame of a number, which counts the frames of the video from 0."""
        if number not in self._task.numbers:
            raise ValueError(f"frame {number} is not one of the task's")
        name = self._files.name(number)
        if name not in self._frames:
            size = self._pictures.size(name, self._task.size)
            self._frames[name] = _Frame("", name, size, (number,))
        return self._frames[name]

    # ----------------------------------------------------------------------- CVAT for images

    def _image(self, image: Element) -> None:
        name = self._pictures.find(image.attrib["name"])
        stated = int(image.attrib["height"]), int(image.attrib["width"])
        size = self._pictures.size(name, stated)
        folder = PurePosixPath(name).parent.as_posix()
        frame = _Frame(image.get("task_id", folder), name, size, (int(image.attrib["id"]),))
        if self._frames.setdefault(name, frame) is not frame:
            raise ValueError(f"picture '{name}' is there twice")
        for shape in image:
            group = shape.get("group_id", "0")
            shared = ("group", group) if group != "0" else None
            self._add(frame, shape, shape.get("label", ""), shared)

    # ------------------------------------------------------------------------------- shapes

    def _add(self, frame: _Frame, shape: Element, label: str, shared: Hashable | None) -> None:
        mask = self._mask(shape, frame.size)
        if mask is None:
            self._left_out[shape.tag] += 1
            return
        number = next((a.text for a in shape if a.get("name") == "track_id" and a.text), None)
        identity = shared if number is None else ("number", number.strip())
        layer = int(shape.get("z_order", "0"))
        frame.shapes.append(AnnotatedShape(self._label(label), mask, identity, layer=layer))

    def _label(self, name: str) -> str:
        if name not in self._task.labels:
            raise ValueError(f"its label '{name}' is not one of the task's")
        return name

    def _mask(self, shape: Element, size: Size) -> Rle | None:
        """None for a shape that is left out."""
        if shape.tag in _WITHOUT_AREA or (shape.tag == "box" and not self._options.boxes):
            return None

        def number(name: str) -> float:
            value = float(shape.attrib[name])
            if not math.isfinite(value):
                raise ValueError(f"its {name} is {value}")
            return value

        degrees = float(shape.get("rotation", "0"))
        if shape.tag == "box":
            return box_mask([number(n) for n in ("xtl", "ytl", "xbr", "ybr")], size, degrees)
        if shape.tag == "ellipse":
            return ellipse_mask([number(n) for n in ("cx", "cy", "rx", "ry")], size, degrees)
        if shape.tag == "polygon":
            pairs = [pair.split(",") for pair in shape.attrib["points"].split(";")]
            return polygon_mask([[float(x), float(y)] for x, y in pairs], size)
        if shape.tag != "mask":
            raise ValueError(f"CVAT has no shape '{shape.tag}'")
        left, top, width, height = (
            int(shape.attrib[n]) for n in ("left", "top", "width", "height")
        )
        if not (0 < width <= size[1] and 0 < height <= size[0]):
            raise ValueError(
                f"its mask of {width}x{height} is not in a frame of {size[1]}x{size[0]}"
            )
        counts = tuple(int(count) for count in shape.attrib["rle"].split(","))
        box = decode_cvat(CvatMask(counts, left, top, width, height))
        return placed_mask(box, left, top, size)


def _note(kind: str, count: int) -> str:
    if kind == "box":
        return f"{count} boxes are left out: --boxes reads them as masks"
    return f"{count} shapes of type {kind} are left out: they have no area"
