"""Videos with a palette picture for each frame: DAVIS, and YouTube-VOS, which has categories.

``Annotations/VIDEO/00000.png`` belongs to ``JPEGImages/VIDEO/00000.jpg``; DAVIS has a folder of the
resolution above the videos. Frames without such a picture are not annotated, and left out.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from visolo_core.errors import VisoloError
from visolo_core.files import read_json
from visolo_core.masks import encode_rle
from visolo_runtime.sources.pictures import natural_order
from visolo_train.importers.frames import (
    AnnotatedFrame,
    AnnotatedShape,
    Imported,
    ImportOptions,
    reading,
)
from visolo_train.importers.index_pictures import BACKGROUND, VOID, read_indices
from visolo_train.importers.pictures import PictureFolder, folder_of

_RESOLUTIONS = {"480p", "1080p", "Full-Resolution"}
LabelOf = Callable[[str, int], str]
"""The category of an object, from the name of its video and its number."""


def is_youtube_vos(document: Any) -> bool:
    """Whether a json document is YouTube-VOS's ``meta.json``."""
    return isinstance(document, dict) and isinstance(document.get("videos"), dict)


def read_davis(path: Path, options: ImportOptions) -> Imported:
    """Read a folder with ``Annotations/`` and ``JPEGImages/``, or one of annotations.

    Raises:
        VisoloError: if there is no annotation, one cannot be read, or a frame is missing or of
            another size.
    """
    if not path.is_dir():
        raise VisoloError(f"'{path}' is not a folder: DAVIS has one of palette pictures")
    annotations = path / "Annotations" if (path / "Annotations").is_dir() else path
    resolutions = [each.name for each in annotations.iterdir() if each.name in _RESOLUTIONS]
    if len(resolutions) > 1:
        raise VisoloError(f"'{annotations}' has {' and '.join(sorted(resolutions))}: name one")
    frames, images = _frames(annotations, options, lambda video, number: options.category)
    return Imported(images, frames)


def read_youtube_vos(path: Path, options: ImportOptions) -> Imported:
    """Read ``meta.json``, or the folder with it, ``Annotations/`` and ``JPEGImages/``.

    Raises:
        VisoloError: if it cannot be read, an object has no category, or a frame or an annotation
            is missing or of another size.
    """
    file = path / "meta.json" if path.is_dir() else path
    document = read_json(file)
    if not is_youtube_vos(document):
        raise VisoloError(f"'{file}' is not YouTube-VOS's meta.json: it has no videos")
    categories: dict[tuple[str, int], str] = {}
    for video, entry in document["videos"].items():
        with reading(f"'{file}', video '{video}'"):
            for number, each in entry["objects"].items():
                categories[video, int(number)] = str(each["category"])

    def label_of(video: str, number: int) -> str:
        if (video, number) not in categories:
            raise ValueError(f"'{file}' has no object {number} of video '{video}'")
        return categories[video, number]

    annotations = file.parent / "Annotations"
    if not annotations.is_dir():
        raise VisoloError(f"there is no folder '{annotations}' with the masks")
    frames, images = _frames(annotations, options, label_of)
    missing = document["videos"].keys() - {frame.video for frame in frames}
    if missing:
        raise VisoloError(f"video '{min(missing)}' of '{file}' has no masks in '{annotations}'")
    labels = sorted(set(categories.values()))
    return Imported(images, frames, tuple(enumerate(labels, start=1)))


def _frames(
    annotations: Path, options: ImportOptions, label_of: LabelOf
) -> tuple[tuple[AnnotatedFrame, ...], Path]:
    """The frames, and the folder of their pictures."""
    images = folder_of([_beside(annotations)], options.images)
    if images.resolve() == annotations.resolve():
        raise VisoloError(f"'{images}' has the masks: name the folder of the frames with --images")
    pictures, indexed = PictureFolder(images), PictureFolder(annotations).listed()
    if not indexed:
        raise VisoloError(f"there are no pictures with object numbers in '{annotations}'")
    frames = []
    for name in sorted(indexed, key=natural_order):
        path = annotations / name
        indices = read_indices(path)
        picture = pictures.find(name)
        size = pictures.size(picture, (indices.shape[0], indices.shape[1]))
        video = PurePosixPath(name).parent.as_posix()
        shapes = []
        for number in np.unique(indices).tolist():
            if number in (BACKGROUND, VOID):
                continue
            with reading(f"'{path}'"):
                label = label_of(video, number)
            shapes.append(AnnotatedShape(label, encode_rle(indices == number), number))
        frames.append(AnnotatedFrame(video, picture, size, tuple(shapes)))
    return tuple(frames), images


def _beside(annotations: Path) -> Path:
    """The folder of the frames: the same path, with ``JPEGImages`` in place of ``Annotations``."""
    parts = list(annotations.parts)
    for place in range(len(parts) - 1, -1, -1):
        if parts[place] == "Annotations":
            parts[place] = "JPEGImages"
            return Path(*parts)
    return annotations.parent / "JPEGImages"
