"""Imported frames as a data set in YouTube-VIS format: which shapes are one object of one video."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pycocotools import mask as coco_mask

from visolo_core.categories import LabelSet, plain_name
from visolo_core.errors import VisoloError
from visolo_core.masks import Rle
from visolo_train.importers.frames import AnnotatedFrame, AnnotatedShape, Imported
from visolo_train.importers.rasters import united

Arrangement = Literal["auto", "video", "images"]
"""Frames of one folder are a video; or every frame is a video of its own; ``auto`` makes videos if
the files say which shapes are the same object."""


@dataclass(frozen=True)
class Assembled:
    """A data set that is ready to be written."""

    document: dict[str, Any]
    """In YouTube-VIS format."""
    notes: tuple[str, ...]
    """Sentences about what is left out or may surprise."""


@dataclass
class _Object:
    label: str
    crowd: bool
    masks: dict[int, list[Rle]] = field(default_factory=dict)
    """By position in the video."""


def assemble(
    imported: Imported,
    source: object,
    arrangement: Arrangement = "auto",
    labels: LabelSet | None = None,
) -> Assembled:
    """Join shapes to objects, and frames to videos.

    Shapes of one label and one identity are one object; if several of them are in one frame, its
    mask has the pixels of all. A shape without an identity is an object of one frame.

    Args:
        imported: what was read.
        source: from where, for sentences.
        arrangement: what is a video.
        labels: categories of the data set, found by their names; None means those of the source.

    Raises:
        VisoloError: if nothing has a mask, a picture is there twice, frames of a video differ in
            size, a video is asked for and no shape has an identity, or a shape has a category that
            the labels do not have.
    """
    notes = list(imported.notes)
    frames, empty = _without_empty_masks(imported.frames)
    if empty:
        notes.append(f"{empty} shapes without a pixel are left out")
    pictures = Counter(frame.file_name for frame in frames)
    twice = [name for name, count in pictures.items() if count > 1]
    if twice:
        raise VisoloError(f"'{source}' annotates picture '{twice[0]}' twice: remove one of them")
    shapes = [shape for frame in frames for shape in frame.shapes]
    if not shapes:
        raise VisoloError(f"'{source}' has no mask to import" + "".join(f"; {n}" for n in notes))
    identified = any(shape.identity is not None for shape in shapes)
    if arrangement == "video" and not identified:
        raise VisoloError(
            f"'{source}' does not say which shapes are the same object: number the objects, "
            "or import it with --as images"
        )
    as_video = identified if arrangement == "auto" else arrangement == "video"
    if as_video:
        notes += _unidentified(shapes)
    ids = _ids_of(labels, shapes) if labels else _category_ids(imported.labels, shapes)
    categories = labels and zip(labels.ids, labels.names, strict=True)
    document: dict[str, Any] = {
        "categories": [
            {"id": number, "name": name}
            for number, name in categories or ((number, name) for name, number in ids.items())
        ],
        "videos": [],
        "annotations": [],
    }
    for video in _videos(frames, as_video):
        _add_video(document, video, ids)
    return Assembled(document, tuple(notes))


def _without_empty_masks(
    frames: Sequence[AnnotatedFrame],
) -> tuple[list[AnnotatedFrame], int]:
    kept, empty = [], 0
    for frame in frames:
        shapes = tuple(shape for shape in frame.shapes if coco_mask.area(shape.mask))
        empty += len(frame.shapes) - len(shapes)
        kept.append(AnnotatedFrame(frame.video, frame.file_name, frame.size, shapes))
    return kept, empty


def _unidentified(shapes: list[AnnotatedShape]) -> list[str]:
    without = sum(shape.identity is None for shape in shapes)
    if not without:
        return []
    return [
        f"{without} of {len(shapes)} shapes have no track number: each is an object of one frame"
    ]


def _category_ids(
    labels: Sequence[tuple[int, str]], shapes: list[AnnotatedShape]
) -> dict[str, int]:
    ids = {name: number for number, name in labels}
    for shape in shapes:
        if shape.label not in ids:
            ids[shape.label] = max(ids.values(), default=0) + 1
    return ids


def _ids_of(labels: LabelSet, shapes: list[AnnotatedShape]) -> dict[str, int]:
    known = {plain_name(n): number for number, n in zip(labels.ids, labels.names, strict=True)}
    ids = {}
    for shape in shapes:
        if plain_name(shape.label) not in known:
            raise VisoloError(
                f"category '{shape.label}' is not one of the labels '{labels.name}': "
                f"{', '.join(labels.names[:8])}{', ...' if len(labels) > 8 else ''}"
            )
        ids[shape.label] = known[plain_name(shape.label)]
    return ids


def _videos(frames: list[AnnotatedFrame], as_video: bool) -> list[list[AnnotatedFrame]]:
    if not as_video:
        return [[frame] for frame in frames]
    videos: dict[str, list[AnnotatedFrame]] = {}
    for frame in frames:
        videos.setdefault(frame.video, []).append(frame)
    for name, members in videos.items():
        sizes = Counter(frame.size for frame in members)
        if len(sizes) > 1:
            (one, _), (other, _) = sizes.most_common(2)
            raise VisoloError(
                f"the frames of video '{name}' are {one[1]}x{one[0]} and {other[1]}x{other[0]}: "
                "import photos with --as images"
            )
    return list(videos.values())


def _add_video(document: dict[str, Any], frames: list[AnnotatedFrame], ids: dict[str, int]) -> None:
    height, width = frames[0].size
    common = {"width": width, "height": height, "length": len(frames)}
    video_id = len(document["videos"]) + 1
    names = [frame.file_name for frame in frames]
    document["videos"].append({"id": video_id, **common, "file_names": names})
    for each in _objects(frames):
        masks = [each.masks.get(position) for position in range(len(frames))]
        segmentations = [united(parts) if parts else None for parts in masks]
        document["annotations"].append(
            {
                "id": len(document["annotations"]) + 1,
                "video_id": video_id,
                "category_id": ids[each.label],
                "iscrowd": int(each.crowd),
                **common,
                "segmentations": segmentations,
                "areas": [int(coco_mask.area(rle)) if rle else None for rle in segmentations],
                "bboxes": [
                    coco_mask.toBbox(rle).tolist() if rle else None for rle in segmentations
                ],
            }
        )


def _objects(frames: list[AnnotatedFrame]) -> list[_Object]:
    """In the order in which they appear."""
    objects: dict[Hashable, _Object] = {}
    for position, frame in enumerate(frames):
        for number, shape in enumerate(frame.shapes):
            lone = shape.identity is None
            key = (position, number) if lone else (shape.label, shape.crowd, shape.identity)
            each = objects.setdefault(key, _Object(shape.label, shape.crowd))
            each.masks.setdefault(position, []).append(shape.mask)
    return list(objects.values())
