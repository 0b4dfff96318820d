"""Annotation and result files in YouTube-VIS and COCO format, checked and in one form.

An image of COCO is a video of one frame, and its objects are tracks of one frame.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pycocotools import mask as coco_mask

from visolo_core.categories import LabelSet, labels_of, plain_name
from visolo_core.errors import VisoloError
from visolo_core.files import read_text
from visolo_core.json_text import non_finite, parse_any
from visolo_core.masks import Rle
from visolo_train.data.doubts import (
    category_doubts,
    track_doubts,
    twin_doubts,
    video_doubts,
)
from visolo_train.data.entries import EntryReader
from visolo_train.data.numbers import finite, whole
from visolo_train.data.segmentations import to_rle

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

    @property
    def is_object(self) -> bool:
        """Whether there is something to learn: a mask with a pixel that is not a crowd's."""
        return not self.crowd and any(rle and coco_mask.area(rle) for rle in self.segmentations)


@dataclass(frozen=True)
class Annotations:
    """A data set."""

    labels: LabelSet
    videos: tuple[Video, ...]
    tracks: tuple[AnnotatedTrack, ...]
    of_images: bool = False
    """Whether the file is COCO's."""


def read_annotations(path: Path, crowd_objects: bool = False) -> Annotations:
    """Read an annotation file in YouTube-VIS or COCO format.

    Args:
        path: of the file.
        crowd_objects: read crowds as objects.

    Raises:
        VisoloError: if it cannot be read, or an entry violates the format; the sentence names the
                entry.
    """

    def refuse(problem: str) -> None:
        raise VisoloError(f"'{path}', {problem}")

    return scan_annotations(path, refuse, crowd_objects=crowd_objects)


def scan_annotations(
    path: Path,
    on_problem: Callable[[str], None],
    on_doubt: Callable[[str], None] = lambda _: None,
    crowd_objects: bool = False,
) -> Annotations:
    """Read every usable entry of an annotation file.

    Args:
        path: of the file.
        on_problem: called with each entry that cannot be used, and why.
        on_doubt: called with each entry that can be used but contradicts itself or another, and
            why.
        crowd_objects: read crowds as objects.

    Raises:
        VisoloError: if it cannot be read, or is of another format.
    """
    document, is_finite = _parsed(path)
    if not isinstance(document, dict):
        raise VisoloError(f"'{path}' is not in YouTube-VIS or COCO format: it is not a json object")
    of_images = "videos" not in document and "images" in document
    place = "images" if of_images else "videos"
    for name in (place, "categories", "annotations"):
        if not isinstance(document.get(name), list):
            raise VisoloError(f"'{path}' is not in YouTube-VIS format: it has no list '{name}'")
    if not is_finite:
        others = {name: document[name] for name in document if name not in (place, "annotations")}
        if wrong := non_finite(others):
            on_problem(f"{wrong}, and numbers must be finite")
    try:
        labels = labels_of(document["categories"], path.stem)
    except (KeyError, TypeError, ValueError) as error:
        raise VisoloError(f"'{path}' has a category without an integer id or a name") from error
    each = EntryReader(on_problem, is_finite)
    videos = each.read(place, document[place], _image if of_images else _video)
    by_id = {video.video_id: video for _, _, video in videos}

    def annotation(entry: dict[str, Any]) -> AnnotatedTrack:
        return _annotation(_as_track(entry) if of_images else entry, by_id, labels, crowd_objects)

    tracks = each.read("annotations", document["annotations"], annotation)
    for doubt in category_doubts(labels):
        on_doubt(doubt)
    for at, entry, _ in videos:
        for doubt in () if of_images else video_doubts(entry):
            on_doubt(f"{place}[{at}]: {doubt}")
    for at, entry, track in tracks:
        video = by_id[track.video_id]
        size = video.height, video.width, len(video.file_names)
        for doubt in () if of_images else track_doubts(entry, *size):
            on_doubt(f"annotations[{at}]: {doubt}")
    for doubt in (
        *twin_doubts(place, ((at, video.file_names) for at, _, video in videos)),
        *twin_doubts("annotations", ((at, _what(track)) for at, _, track in tracks)),
    ):
        on_doubt(doubt)
    return Annotations(
        labels, tuple(by_id.values()), tuple(track for _, _, track in tracks), of_images
    )


def read_results(path: Path, annotations: Annotations) -> tuple[AnnotatedTrack, ...]:
    """Read a YouTube-VIS results file for a data set.

    Raises:
        VisoloError: if it cannot be read, or a result violates the format or belongs to
            a video or category that the data set does not have.
    """
    document, is_finite = _parsed(path)
    if not isinstance(document, list):
        raise VisoloError(f"'{path}' is not a results file: it is not a json list")
    by_id = {video.video_id: video for video in annotations.videos}

    def result(entry: dict[str, Any]) -> AnnotatedTrack:
        score = finite(entry["score"], "score")
        return _track(entry, by_id, annotations.labels, score=score)

    def refuse(problem: str) -> None:
        raise VisoloError(f"'{path}', {problem}")

    return tuple(
        track for _, _, track in EntryReader(refuse, is_finite).read("results", document, result)
    )


def _parsed(path: Path) -> tuple[Any, bool]:
    """The content of a json file, and whether all numbers in it are finite."""
    text = read_text(path)
    try:
        return parse_any(text)
    except ValueError as error:
        raise VisoloError(f"'{path}' is not json: {error}") from error


def _what(track: AnnotatedTrack) -> Hashable | None:
    """Equal for tracks that are the same object; None for one without a mask."""
    if not any(track.segmentations):
        return None
    counts = tuple(rle and rle["counts"] for rle in track.segmentations)
    return track.video_id, track.category_id, counts


def _video(entry: dict[str, Any]) -> Video:
    names = entry["file_names"]
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise ValueError("its file_names are not a list of names")
    "".join(names).encode()  # half of a surrogate pair cannot be written
    height, width = whole(entry["height"], "height"), whole(entry["width"], "width")
    if not (0 < height <= _MAX_SIDE and 0 < width <= _MAX_SIDE):
        raise ValueError(f"its size is {width}x{height}")
    exhaustive = bool(entry.get("exhaustive", True))
    return Video(whole(entry["id"], "id"), height, width, tuple(names), exhaustive)


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
    entry: dict[str, Any], videos: dict[int, Video], labels: LabelSet, crowd_objects: bool
) -> AnnotatedTrack:
    areas = entry.get("areas")
    crowd = bool(entry.get("iscrowd", 0)) and not crowd_objects
    track = _track(entry, videos, labels, crowd=crowd)
    return track if areas is None else replace(track, areas=_areas(areas, track))


def _areas(areas: Any, track: AnnotatedTrack) -> tuple[float | None, ...]:
    if not isinstance(areas, list) or len(areas) != len(track.segmentations):
        count = f"{len(areas)} areas" if isinstance(areas, list) else "no list of areas"
        raise ValueError(f"it has {count} for {len(track.segmentations)} frames")
    read = tuple(None if area is None else finite(area, "area") for area in areas)
    if any(area is not None and area < 0 for area in read):
        raise ValueError("an area of it is below 0")
    return read


def _track(
    entry: dict[str, Any],
    videos: dict[int, Video],
    labels: LabelSet,
    score: float = 1.0,
    crowd: bool = False,
) -> AnnotatedTrack:
    video = videos.get(whole(entry["video_id"], "video_id"))
    if video is None:
        raise ValueError(f"there is no video or image {entry['video_id']}")
    category = whole(entry["category_id"], "category_id")
    if category not in labels.ids:
        raise ValueError(f"there is no category {category}")
    masks = entry["segmentations"]
    if not isinstance(masks, list):
        raise TypeError("its segmentations are not a list")
    if len(masks) != len(video.file_names):
        raise ValueError(f"it has {len(masks)} masks for {len(video.file_names)} frames")
    rles = tuple(None if not mask else to_rle(mask, video.height, video.width) for mask in masks)
    return AnnotatedTrack(video.video_id, category, rles, score, crowd)


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
