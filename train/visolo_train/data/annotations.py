"""Annotation and result files in YouTube-VIS and COCO format, checked and in one form.

An image of COCO is a video of one frame, and its objects are tracks of one frame.

Masks may be polygons, uncompressed or compressed run lengths; here all of them become compressed
run lengths.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from visolo_core.categories import LabelSet, labels_of, plain_name
from visolo_core.errors import VisoloError
from visolo_core.files import read_json
from visolo_core.masks import Rle, run_lengths

Entry = TypeVar("Entry")
_MAX_SIDE = 32768  # pixels; more is a mistake, and would be too much for the memory


@dataclass(frozen=True)
class Video:
    """One annotated video."""

    video_id: int
    height: int
    width: int
    file_names: tuple[str, ...]
    """Paths of the frames inside the folder of images."""
    exhaustive: bool = True
    """Whether every object of the data set's categories is annotated."""


@dataclass(frozen=True)
class AnnotatedTrack:
    """One object of a video, from annotations or from results."""

    video_id: int
    category_id: int
    segmentations: tuple[Rle | None, ...]
    """A mask or None for every frame of the video."""
    score: float = 1.0
    """Of a result."""
    crowd: bool = False
    """Of an annotation: results may match it, any number of them, without gain or loss."""
    areas: tuple[float | None, ...] | None = None
    """Pixels of each mask, where an annotation states them."""


@dataclass(frozen=True)
class Annotations:
    """A data set."""

    labels: LabelSet
    videos: tuple[Video, ...]
    tracks: tuple[AnnotatedTrack, ...]

    def without(self, video_ids: Collection[int]) -> Annotations:
        """The same without some videos."""
        return Annotations(
            self.labels,
            tuple(video for video in self.videos if video.video_id not in video_ids),
            tuple(track for track in self.tracks if track.video_id not in video_ids),
        )


def read_annotations(path: Path) -> Annotations:
    """Read an annotation file in YouTube-VIS or COCO format.

    Raises:
        VisoloError: if it cannot be read, or an entry violates the format; the sentence names the
                entry.
    """

    def refuse(problem: str) -> None:
        raise VisoloError(f"'{path}', {problem}")

    return scan_annotations(path, refuse)


def scan_annotations(path: Path, on_problem: Callable[[str], None]) -> Annotations:
    """Read every usable entry of an annotation file.

    Args:
        path: of the file.
        on_problem: called with each entry that cannot be used, and why.

    Raises:
        VisoloError: if it cannot be read, or is of another format.
    """
    document = read_json(path)
    if not isinstance(document, dict):
        raise VisoloError(f"'{path}' is not in YouTube-VIS or COCO format: it is not a json object")
    of_images = "videos" not in document and "images" in document
    place = "images" if of_images else "videos"
    for name in (place, "categories", "annotations"):
        if not isinstance(document.get(name), list):
            raise VisoloError(f"'{path}' is not in YouTube-VIS format: it has no list '{name}'")
    try:
        labels = labels_of(document["categories"], path.stem)
    except (KeyError, TypeError, ValueError) as error:
        raise VisoloError(f"'{path}' has a category without an integer id or a name") from error
    read_video = _image if of_images else _video
    videos = _each(place, document[place], read_video, on_problem)
    by_id = {video.video_id: video for video in videos}

    def annotation(entry: dict[str, Any]) -> AnnotatedTrack:
        return _annotation(_as_track(entry) if of_images else entry, by_id, labels)

    tracks = _each("annotations", document["annotations"], annotation, on_problem)
    return Annotations(labels, tuple(by_id.values()), tuple(tracks))


def read_results(path: Path, annotations: Annotations) -> tuple[AnnotatedTrack, ...]:
    """Read a YouTube-VIS results file for a data set.

    Raises:
        VisoloError: if it cannot be read, or a result violates the format or belongs to
            a video or category that the data set does not have.
    """
    document = read_json(path)
    if not isinstance(document, list):
        raise VisoloError(f"'{path}' is not a results file: it is not a json list")
    by_id = {video.video_id: video for video in annotations.videos}

    def result(entry: dict[str, Any]) -> AnnotatedTrack:
        return _track(entry, by_id, annotations.labels, score=float(entry["score"]))

    def refuse(problem: str) -> None:
        raise VisoloError(f"'{path}', {problem}")

    return tuple(_each("results", document, result, refuse))


def to_rle(segmentation: Any, height: int, width: int) -> Rle:
    """A mask of any of the three forms as compressed run lengths.

    Raises:
        ValueError, KeyError, TypeError: if it is in none of these forms, or of another size.
    """
    if isinstance(segmentation, list):
        parts = [_polygon(part, height, width) for part in segmentation]
        merged = coco_mask.merge(coco_mask.frPyObjects(parts, height, width))
        return {"size": [height, width], "counts": merged["counts"].decode()}
    size, counts = segmentation["size"], segmentation["counts"]
    if list(size) != [height, width]:
        raise ValueError(f"its mask is {size[1]}x{size[0]}, the frame {width}x{height}")
    if isinstance(counts, list):
        _check_runs(np.asarray(counts), height, width)
        packed = coco_mask.frPyObjects({"size": size, "counts": counts}, height, width)
        return {"size": [height, width], "counts": packed["counts"].decode()}
    if not isinstance(counts, str):
        raise TypeError("its run lengths are neither a list nor a string")
    _check_runs(run_lengths(counts), height, width)
    return {"size": [height, width], "counts": counts}


def _check_runs(runs: NDArray[Any], height: int, width: int) -> None:
    integers = np.issubdtype(runs.dtype, np.integer)
    if not integers or (runs < 0).any() or runs.sum() != height * width:
        raise ValueError("its run lengths do not cover the frame")


def _polygon(part: Any, height: int, width: int) -> list[float]:
    """x, y, x, y ... in pixels. Slightly outside the frame is usual; far outside is an error."""
    points = np.asarray(part, np.float64)
    if points.ndim != 1 or len(points) < 6 or len(points) % 2:
        raise ValueError("its polygon is not a list of three points or more")
    side = max(height, width)
    if not ((points > -side) & (points < 2 * side)).all():
        raise ValueError("its polygon lies outside of the frame")
    return [float(point) for point in points]


def _each(
    kind: str,
    entries: list[Any],
    read: Callable[[dict[str, Any]], Entry],
    on_problem: Callable[[str], None],
) -> list[Entry]:
    """Read every entry of a list; a faulty one is reported with its position."""
    read_entries, places = [], dict[Any, int]()
    for place, entry in enumerate(entries):
        try:
            if not isinstance(entry, dict):
                raise TypeError("it is not a json object")
            read_entries.append(read(entry))
            number = entry.get("id")
            first = place if number is None else places.setdefault(number, place)
            if first != place:
                read_entries.pop()
                raise ValueError(f"its id {number} is that of {kind}[{first}] already")
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            what = f"it has no {error}" if isinstance(error, KeyError) else str(error)
            on_problem(f"{kind}[{place}] cannot be used: {what}")
    return read_entries


def _video(entry: dict[str, Any]) -> Video:
    names = entry["file_names"]
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise ValueError("its file_names are not a list of names")
    height, width = int(entry["height"]), int(entry["width"])
    if not (0 < height <= _MAX_SIDE and 0 < width <= _MAX_SIDE):
        raise ValueError(f"its size is {width}x{height}")
    exhaustive = bool(entry.get("exhaustive", True))
    return Video(int(entry["id"]), height, width, tuple(names), exhaustive)


def _image(entry: dict[str, Any]) -> Video:
    return _video({**entry, "file_names": [entry["file_name"]]})


def _as_track(entry: dict[str, Any]) -> dict[str, Any]:
    """An annotation of COCO as one of YouTube-VIS."""
    area = entry.get("area")
    # A file of boxes has no masks; the check of a data set says so once.
    mask = entry.get("segmentation") if "bbox" in entry else entry["segmentation"]
    return {
        **entry,
        "video_id": entry["image_id"],
        "segmentations": [mask],
        "areas": None if area is None else [area],
    }


def _annotation(
    entry: dict[str, Any], videos: dict[int, Video], labels: LabelSet
) -> AnnotatedTrack:
    areas = entry.get("areas")
    if areas is not None and not all(a is None or math.isfinite(float(a)) for a in areas):
        raise ValueError("an area of it is not a finite number")
    return _track(
        entry,
        videos,
        labels,
        crowd=bool(entry.get("iscrowd", 0)),
        areas=None if areas is None else tuple(None if a is None else float(a) for a in areas),
    )


def _track(
    entry: dict[str, Any],
    videos: dict[int, Video],
    labels: LabelSet,
    score: float = 1.0,
    crowd: bool = False,
    areas: tuple[float | None, ...] | None = None,
) -> AnnotatedTrack:
    video = videos.get(int(entry["video_id"]))
    if video is None:
        raise ValueError(f"there is no video or image {entry['video_id']}")
    category = int(entry["category_id"])
    if category not in labels.ids:
        raise ValueError(f"there is no category {category}")
    masks = entry["segmentations"]
    if len(masks) != len(video.file_names):
        raise ValueError(f"it has {len(masks)} masks for {len(video.file_names)} frames")
    rles = tuple(None if not mask else to_rle(mask, video.height, video.width) for mask in masks)
    return AnnotatedTrack(video.video_id, category, rles, score, crowd, areas)


def check_categories(data: LabelSet, labels: LabelSet) -> None:
    """Make sure that a network can be trained on a data set.

    Raises:
        VisoloError: if a category of the data is not among the network's labels.
    """
    names = dict(zip(labels.ids, labels.names, strict=True))
    for number, name in zip(data.ids, data.names, strict=True):
        there = names.get(number)
        if there is None or plain_name(there) != plain_name(name):
            raise VisoloError(
                f"category {number} of '{data.name}' is '{name}', which the labels "
                f"'{labels.name}' of the network do not have at that id "
                "(for COCO's categories see: visolo data coco-to-ytvis)"
            )
