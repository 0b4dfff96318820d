"""A mini-val: a fixed part of a training set, held back because the official ground truth is not
public.

The side of a video depends on its name alone. So the split is the same on every machine and
in every order, and a video that two editions of a data set share falls on the same side in both:
a network that was fine-tuned on one may be scored on the mini-val of the other.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from visolo_core.errors import VisoloError
from visolo_core.files import read_json
from visolo_train.data.annotations import Annotations


@dataclass(frozen=True)
class Split:
    """The two sides of an annotation file, each a complete file."""

    training: dict[str, Any]
    validation: dict[str, Any]
    per_category: dict[str, tuple[int, int]]
    """Annotations of each category, by name, on the two sides."""


def split_annotations(path: Path, share: float, salt: str = "") -> Split:
    """Split a file in YouTube-VIS or COCO format by videos or images.

    Args:
        path: the file.
        share: of the validation side, above 0 and below 1; each video falls on that side with this
            probability, so the number of videos is close to the share but not equal to it.
        salt: a different word gives a different split.

    Raises:
        VisoloError: if the file cannot be read or is of another format, or a side has no video.
    """
    if not 0 < share < 1:
        raise VisoloError(f"a share of {share:g} is not a split: choose one above 0 and below 1")
    document = read_json(path)
    kind = "videos" if isinstance(document, dict) and "videos" in document else "images"
    owner = "video_id" if kind == "videos" else "image_id"
    try:
        names = {each["id"]: str(each["name"]) for each in document["categories"]}
        held_back = {each["id"] for each in document[kind] if _chance(each, salt) < share}
        everything = {each["id"] for each in document[kind]}
        counts = [Counter[str](), Counter[str]()]
        for entry in document["annotations"]:
            counts[entry[owner] in held_back][names[entry["category_id"]]] += 1
        training = _side(document, kind, owner, held_back, False)
        validation = _side(document, kind, owner, held_back, True)
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        what = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise VisoloError(f"'{path}' is in neither YouTube-VIS nor COCO format: {what}") from error
    for name, count in (("training", len(everything - held_back)), ("validation", len(held_back))):
        if not count:
            raise VisoloError(f"a share of {share:g} of '{path}' leaves no {kind} for {name}")
    per_category = {name: (counts[0][name], counts[1][name]) for name in names.values()}
    return Split(training, validation, per_category)


def without_held_out(annotations: Annotations, path: Path, share: float) -> Annotations:
    """The training side of a data set that is already read.

    Args:
        annotations: the whole.
        path: where they were read from.
        share: as for :func:`split_annotations`; 0 holds nothing back.

    Raises:
        VisoloError: see :func:`split_annotations`.
    """
    if not share:
        return annotations
    training = split_annotations(path, share).training
    kept = {entry["id"] for entry in training["videos" if "videos" in training else "images"]}
    videos = tuple(video for video in annotations.videos if video.video_id in kept)
    tracks = tuple(track for track in annotations.tracks if track.video_id in kept)
    return replace(annotations, videos=videos, tracks=tracks)


def _chance(entry: dict[str, Any], salt: str) -> float:
    """A number from 0 to 1 derived from the name of a video or an image."""
    name = entry["file_names"][0] if "file_names" in entry else entry["file_name"]
    return chance_of(str(name), "file_names" in entry, salt)


def chance_of(name: str, of_a_video: bool, salt: str = "") -> float:
    """A number from 0 to 1 derived from a name.

    Args:
        name: of an image, or of the first frame of a video.
        of_a_video: its folder's name counts, not the frame's.
        salt: a different word gives a different number.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    known_by = path.parent if of_a_video and path.parent.name else path
    digest = hashlib.sha256(f"{salt}/{known_by}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def _side(
    document: dict[str, Any], kind: str, owner: str, held_back: set[Any], validation: bool
) -> dict[str, Any]:
    return {
        **document,
        kind: [each for each in document[kind] if (each["id"] in held_back) == validation],
        "annotations": [
            each for each in document["annotations"] if (each[owner] in held_back) == validation
        ],
    }
