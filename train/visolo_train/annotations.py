"""Annotation and result files in YouTube-VIS format, and COCO's, checked and in one form.

An image of COCO is a video of one frame, and its objects are tracks of one frame.

Masks may come as polygons, as uncompressed or as compressed run lengths; in here they are all
compressed run lengths.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pycocotools import mask as coco_mask

from visolo_core.categories import LabelSet, labels_of
from visolo_core.errors import VisoloError
from visolo_core.files import read_json
from visolo_core.masks import Rle

Entry = TypeVar("Entry")


@dataclass(frozen=True)
class Video:
    """One annotated video."""

    video_id: int
    height: int
    width: int
    file_names: tuple[str, ...]
    """Paths of the frames inside the folder of images."""


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


def read_annotations(path: Path) -> Annotations:
    """Read an annotation file in YouTube-VIS or COCO format.

    Raises:
        VisoloError: if it cannot be read, or an entry is not what the format says; the sentence
            names the entry.
    """
    document = read_json(path)
    if not isinstance(document, dict):
        raise VisoloError(f"'{path}' is not in YouTube-VIS or COCO format: it is no json object")
    of_images = "videos" not in document and "images" in document
    for name in ("images" if of_images else "videos", "categories", "annotations"):
        if not isinstance(document.get(name), list):
            raise VisoloError(f"'{path}' is not in YouTube-VIS format: it has no list '{name}'")
    try:
        labels = labels_of(document["categories"], path.stem)
    except (KeyError, TypeError, ValueError) as error:
        raise VisoloError(f"'{path}' has a category without an integer id or a name") from error
    if of_images:
        videos = tuple(_each(path, "images", document["images"], _image))
    else:
        videos = tuple(_each(path, "videos", document["videos"], _video))
    by_id = {video.video_id: video for video in videos}
    if len(by_id) != len(videos):
        raise VisoloError(f"'{path}' uses {'an image' if of_images else 'a video'} id twice")

    def annotation(entry: dict[str, Any]) -> AnnotatedTrack:
        return _annotation(_as_track(entry) if of_images else entry, by_id, labels)

    tracks = tuple(_each(path, "annotations", document["annotations"], annotation))
    return Annotations(labels, videos, tracks)


def read_results(path: Path, annotations: Annotations) -> tuple[AnnotatedTrack, ...]:
    """Read a YouTube-VIS results file for a data set.

    Raises:
        VisoloError: if it cannot be read, or a result is not what the format says, or belongs to
            a video or category that the data set does not have.
    """
    document = read_json(path)
    if not isinstance(document, list):
        raise VisoloError(f"'{path}' is not a results file: it is no json list")
    by_id = {video.video_id: video for video in annotations.videos}

    def result(entry: dict[str, Any]) -> AnnotatedTrack:
        return _track(entry, by_id, annotations.labels, score=float(entry["score"]))

    return tuple(_each(path, "results", document, result))


def to_rle(segmentation: Any, height: int, width: int) -> Rle:
    """A mask of any of the three forms as compressed run lengths.

    Raises:
        ValueError, KeyError, TypeError: if it is none of them, or of another size.
    """
    if isinstance(segmentation, list):
        parts = coco_mask.frPyObjects(segmentation, height, width)
        merged = coco_mask.merge(parts)
        return {"size": [height, width], "counts": merged["counts"].decode()}
    size, counts = segmentation["size"], segmentation["counts"]
    if list(size) != [height, width]:
        raise ValueError(f"its mask is {size[1]}x{size[0]}, the video {width}x{height}")
    if isinstance(counts, list):
        if sum(counts) != height * width or any(run < 0 for run in counts):
            raise ValueError("its run lengths do not cover the frame")
        packed = coco_mask.frPyObjects({"size": size, "counts": counts}, height, width)
        return {"size": [height, width], "counts": packed["counts"].decode()}
    if not isinstance(counts, str):
        raise TypeError("its run lengths are neither a list nor a string")
    return {"size": [height, width], "counts": counts}


def _each(
    path: Path, kind: str, entries: list[Any], read: Callable[[dict[str, Any]], Entry]
) -> list[Entry]:
    """Read every entry of a list; what is wrong with one is told with its place."""
    found = []
    for place, entry in enumerate(entries):
        try:
            found.append(read(entry))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            what = f"it has no {error}" if isinstance(error, KeyError) else str(error)
            raise VisoloError(f"'{path}', {kind}[{place}] cannot be used: {what}") from error
    return found


def _video(entry: dict[str, Any]) -> Video:
    names = entry["file_names"]
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise ValueError("its file_names are no list of names")
    height, width = int(entry["height"]), int(entry["width"])
    if height < 1 or width < 1:
        raise ValueError(f"its size is {width}x{height}")
    return Video(int(entry["id"]), height, width, tuple(names))


def _image(entry: dict[str, Any]) -> Video:
    return _video({**entry, "file_names": [entry["file_name"]]})


def _as_track(entry: dict[str, Any]) -> dict[str, Any]:
    """An annotation of COCO as one of YouTube-VIS."""
    area = entry.get("area")
    return {
        **entry,
        "video_id": entry["image_id"],
        "segmentations": [entry["segmentation"]],
        "areas": None if area is None else [area],
    }


def _annotation(
    entry: dict[str, Any], videos: dict[int, Video], labels: LabelSet
) -> AnnotatedTrack:
    areas = entry.get("areas")
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
