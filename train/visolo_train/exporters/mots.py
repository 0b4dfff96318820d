"""A data set as MOTS: a picture of 16 bits for each frame, or a text file for each video.

MOTS has no overlapping masks. Crowds become regions to be ignored.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask

from visolo_core.errors import VisoloError
from visolo_core.files import inside
from visolo_core.masks import Rle, decode_rle
from visolo_train.data.annotations import AnnotatedTrack, Annotations, Video
from visolo_train.importers.mots import IGNORED_CLASS, LABELS_FILE, PER_CLASS

_MAX_CLASSES = (2**16 - 1) // PER_CLASS - 1
_IGNORED = IGNORED_CLASS * PER_CLASS


def write_mots(annotations: Annotations, folder: Path) -> None:
    """Write ``instances/`` with a png file for each frame, by the frame's own name.

    Args:
        annotations: the data set.
        folder: an existing one.

    Raises:
        VisoloError: if masks overlap, there are more objects or classes than MOTS has numbers for,
            or two frames would have one file.
    """
    instances = folder / "instances"
    instances.mkdir()
    _write_labels(annotations, instances)
    for video, values in _numbered(annotations):
        for position, name in enumerate(video.file_names):
            pixels: NDArray[np.uint16] = np.zeros((video.height, video.width), np.uint16)
            for value, rle in _masks(values, position, f"frame '{name}'"):
                pixels[decode_rle(rle)] = value
            path = inside(instances, str(PurePosixPath(name).with_suffix(".png")))
            if path.exists():
                raise VisoloError(f"frame '{name}' is there twice, up to its suffix: rename it")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)


def write_mots_text(annotations: Annotations, folder: Path) -> None:
    """Write a text file for each video, by the name of its frames' folder.

    Args:
        annotations: the data set.
        folder: an existing one.

    Raises:
        VisoloError: as :func:`write_mots`, or if frames have no numbers, or two videos one name.
    """
    _write_labels(annotations, folder)
    for video, values in _numbered(annotations):
        numbers = _frame_numbers(video)
        lines = []
        for position, number in enumerate(numbers):
            for value, rle in _masks(values, position, f"frame '{video.file_names[position]}'"):
                kind = value // PER_CLASS
                lines.append(
                    f"{number} {value} {kind} {video.height} {video.width} {rle['counts']}\n"
                )
        path = folder / f"{PurePosixPath(video.file_names[0]).parent.name or 'video'}.txt"
        if path.exists():
            raise VisoloError(f"two videos have frames in a folder '{path.stem}': rename one")
        path.write_text("".join(lines), encoding="utf-8")


def _write_labels(annotations: Annotations, folder: Path) -> None:
    names = annotations.labels.names
    if len(names) > _MAX_CLASSES:
        raise VisoloError(f"MOTS has numbers for {_MAX_CLASSES} classes, the data has {len(names)}")
    (folder / LABELS_FILE).write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


Values = list[tuple[int, AnnotatedTrack]]


def _numbered(annotations: Annotations) -> Iterator[tuple[Video, Values]]:
    """Every video with its tracks, each with its number in MOTS."""
    ids = annotations.labels.ids
    for video in annotations.videos:
        counts: Counter[int] = Counter()
        values: Values = []
        for track in annotations.tracks:
            if track.video_id != video.video_id:
                continue
            if track.crowd:
                if len(ids) >= IGNORED_CLASS:
                    raise VisoloError(
                        f"MOTS marks regions to be ignored by class {IGNORED_CLASS}, which is a "
                        "category here: leave out the crowds, or export to coco"
                    )
                values.append((_IGNORED, track))
                continue
            kind = ids.index(track.category_id) + 1
            counts[kind] += 1
            if counts[kind] >= PER_CLASS:
                raise VisoloError(
                    f"MOTS has numbers for {PER_CLASS - 1} objects of a class, video "
                    f"{video.video_id} has more"
                )
            values.append((kind * PER_CLASS + counts[kind], track))
        yield video, values


def _masks(values: Values, position: int, frame: str) -> list[tuple[int, Rle]]:
    """Numbers and masks of a frame, which do not overlap; those to be ignored joined."""
    present = [
        (value, rle)
        for value, track in values
        if (rle := track.segmentations[position]) is not None and coco_mask.area(rle)
    ]
    ignored = [rle for value, rle in present if value == _IGNORED]
    objects = [(value, rle) for value, rle in present if value != _IGNORED]
    if ignored:
        merged = coco_mask.merge(ignored)
        joined: Rle = {"size": ignored[0]["size"], "counts": merged["counts"].decode()}
        objects.append((_IGNORED, joined))
    masks = [rle for _, rle in objects]
    shared = sum(map(int, coco_mask.area(masks))) - int(coco_mask.area(coco_mask.merge(masks)))
    if shared:
        raise VisoloError(
            f"masks of {frame} overlap, by {shared} pixels, which MOTS has no form for: export to "
            "coco or cvat"
        )
    return objects


def _frame_numbers(video: Video) -> list[int]:
    digits = [re.search(r"(\d+)$", PurePosixPath(name).stem) for name in video.file_names]
    numbers = [int(each[1]) for each in digits if each]
    if len(set(numbers)) != len(video.file_names):
        raise VisoloError(
            f"the frames of video {video.video_id}, such as '{video.file_names[0]}', do not end in "
            "a number of their own, by which MOTS's text names them: export to mots"
        )
    return numbers
