"""A data set of drawn videos, on disk in YouTube-VIS format."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from visolo_core.categories import SHAPES
from visolo_core.errors import VisoloError
from visolo_core.files import replaced_folder
from visolo_core.masks import encode_rle
from visolo_train.data.pasting import PastedClips
from visolo_train.data.synthetic import SyntheticClip, draw_clip

_JPEG_QUALITY = 92


def write_synthetic_data(
    folder: Path,
    videos: int,
    seed: int,
    frames: int,
    size: tuple[int, int],
    progress: Callable[[int], None] = lambda _: None,
    pasted: PastedClips | None = None,
) -> None:
    """Write ``instances.json`` and ``JPEGImages/`` into a new folder.

    Args:
        folder: the data set; it must not exist, and is created when everything is done.
        videos: how many.
        seed: data sets with the same seed and size begin with the same videos.
        frames: of each video.
        size: (height, width).
        progress: called with the number of videos done.
        pasted: source of cut-outs and backdrops; None draws shapes.

    Raises:
        VisoloError: if the folder exists or cannot be written, or a picture cannot be read.
    """
    if folder.exists():
        raise VisoloError(f"'{folder}' exists already: name a new folder")
    labels = pasted.labels if pasted else SHAPES
    draw = pasted.draw if pasted else draw_clip
    document: dict[str, Any] = {
        "info": {"description": f"visolo synthetic {labels.name}", "seed": seed},
        "categories": [
            {"id": number, "name": name}
            for number, name in zip(labels.ids, labels.names, strict=True)
        ],
        "videos": [],
        "annotations": [],
    }
    with replaced_folder(folder) as work:
        for number in range(videos):
            clip = draw(seed, number, frames, *size)
            _add_video(document, work / "JPEGImages", number, clip)
            progress(number + 1)
        (work / "instances.json").write_text(json.dumps(document), encoding="utf-8")


def _add_video(document: dict[str, Any], images: Path, number: int, clip: SyntheticClip) -> None:
    frames, height, width = clip.frames.shape[:3]
    name = f"{number:05}"
    (images / name).mkdir(parents=True)
    names = [f"{name}/{frame:05}.jpg" for frame in range(frames)]
    for file, frame in zip(names, clip.frames, strict=True):
        Image.fromarray(frame).save(images / file, quality=_JPEG_QUALITY)
    video_id = number + 1
    common = {"width": width, "height": height, "length": frames}
    document["videos"].append({"id": video_id, **common, "file_names": names})
    for index, category in enumerate(clip.category_ids):
        masks = clip.masks[:, index]
        if not masks.any():
            continue
        document["annotations"].append(
            {
                "id": len(document["annotations"]) + 1,
                "video_id": video_id,
                "category_id": category,
                "iscrowd": 0,
                **common,
                "segmentations": [encode_rle(mask) if mask.any() else None for mask in masks],
                "areas": [int(mask.sum()) if mask.any() else None for mask in masks],
                "bboxes": [_box(mask) for mask in masks],
            }
        )


def _box(mask: np.ndarray[Any, np.dtype[np.bool_]]) -> list[float] | None:
    """x, y, width, height."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return None
    left, top = int(columns[0]), int(rows[0])
    return [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1]
