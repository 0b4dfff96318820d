"""MOTS in both forms, as KITTI MOTS, MOTSChallenge and CVAT have it.

Pictures of 16 bits: a pixel is 1000 times the class plus the number of the object. Or a line of
text for each mask: frame, object, class, height, width, run lengths. The class 10 is a region to be
ignored, which may hold objects of any class: a crowd of each of them.

``labels.txt`` beside the pictures names the classes, the first being 1; without it they are those
of KITTI.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path, PurePosixPath

import numpy as np

from visolo_core.errors import VisoloError
from visolo_core.files import reason
from visolo_core.masks import Rle, encode_rle
from visolo_runtime.sources.pictures import natural_order
from visolo_train.data.segmentations import to_rle
from visolo_train.importers.frames import (
    AnnotatedFrame,
    AnnotatedShape,
    Imported,
    ImportOptions,
    reading,
)
from visolo_train.importers.index_pictures import read_instances
from visolo_train.importers.pictures import PictureFolder, folder_of

LABELS_FILE = "labels.txt"
PER_CLASS, IGNORED_CLASS = 1000, 10
KITTI = ("car", "pedestrian")


def read_mots(path: Path, options: ImportOptions) -> Imported:
    """Read a folder ``instances/`` of pictures, or the folder with it.

    Raises:
        VisoloError: if there is no such picture, one cannot be read, a class has no name, or a
            frame is missing or of another size.
    """
    instances = _instances(path)
    parent = instances.parent
    usual = [parent / name for name in ("images", "image_02", "JPEGImages", "img1")]
    pictures = PictureFolder(folder_of(usual, options.images))
    names = read_labels(instances)
    frames = []
    indexed = [name for name in PictureFolder(instances).listed() if name.lower().endswith(".png")]
    if not indexed:
        raise VisoloError(f"there are no png files in '{instances}'")
    for name in indexed:
        pixels = read_instances(instances / name)
        picture = pictures.find(name)
        size = pictures.size(picture, (pixels.shape[0], pixels.shape[1]))
        shapes: list[AnnotatedShape] = []
        for value in np.unique(pixels).tolist():
            if value:
                with reading(f"'{instances / name}', value {value}"):
                    shapes += _shapes(value, encode_rle(pixels == value), names)
        video = PurePosixPath(name).parent.as_posix()
        frames.append(AnnotatedFrame(video, picture, size, tuple(shapes)))
    return Imported(pictures.folder, tuple(frames), tuple(enumerate(names, start=1)))


def read_mots_text(path: Path, options: ImportOptions) -> Imported:
    """Read a text file, or all in a folder, one for each video.

    Every picture of a video is a frame, whether there is a line for it or not.

    Raises:
        VisoloError: if there is none, a line violates the format, a class has no name, or a frame
            is missing or of another size.
    """
    files = [path] if path.is_file() else text_files(path)
    if not files:
        raise VisoloError(f"there are no txt files in '{path}'")
    folder = path if path.is_dir() else path.parent
    usual = [
        parent / name
        for parent in (folder, folder.parent)
        for name in ("images", "image_02", "JPEGImages", "img1")
    ]
    pictures = PictureFolder(folder_of(usual, options.images))
    names = read_labels(folder)
    frames = [
        frame
        for file in files
        for frame in _text_frames(file, pictures, names, alone=len(files) == 1)
    ]
    return Imported(pictures.folder, tuple(frames), tuple(enumerate(names, start=1)))


def text_files(folder: Path) -> list[Path]:
    """The files of videos in a folder, in natural order."""
    files = [file for file in folder.glob("*.txt") if file.name != LABELS_FILE]
    return sorted(files, key=lambda file: natural_order(file.name))


def read_labels(folder: Path) -> tuple[str, ...]:
    """Names of the classes, the first being 1.

    Raises:
        VisoloError: if the file cannot be read or is empty.
    """
    file = folder / LABELS_FILE
    if not file.is_file():
        return KITTI
    names = tuple(line for line in (each.strip() for each in _lines(file)) if line)
    if not names or len(set(names)) != len(names):
        raise VisoloError(f"'{file}' does not name the classes, each once")
    return names


def _instances(path: Path) -> Path:
    if path.name == "instances" or any(path.glob("*.png")):
        return path
    folders = sorted(each for each in path.rglob("instances") if each.is_dir())
    if not folders:
        return path
    if len(folders) > 1:
        raise VisoloError(f"'{path}' has '{folders[0]}' and '{folders[1]}': name one of them")
    return folders[0]


def _shapes(value: int, mask: Rle, names: tuple[str, ...]) -> list[AnnotatedShape]:
    """The shape of an object, or the crowds of a region to be ignored."""
    number = value // PER_CLASS
    if number == IGNORED_CLASS and len(names) < IGNORED_CLASS:
        return [AnnotatedShape(name, mask, "ignored", crowd=True) for name in names]
    if not 1 <= number <= len(names):
        raise ValueError(f"there is no class {number}: '{LABELS_FILE}' has {len(names)}")
    return [AnnotatedShape(names[number - 1], mask, value)]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise VisoloError(f"cannot read '{path}': {reason(error)}") from error
    except UnicodeDecodeError as error:
        raise VisoloError(f"'{path}' is not text: {error}") from error


def _text_frames(
    file: Path, pictures: PictureFolder, names: tuple[str, ...], alone: bool
) -> list[AnnotatedFrame]:
    # MOTSChallenge calls every video's file gt/gt.txt.
    video = file.parent.parent.name if file.stem == "gt" else file.stem
    numbered = _numbered(pictures, video, file, alone)
    shapes: dict[int, list[AnnotatedShape]] = defaultdict(list)
    for place, line in enumerate(_lines(file), start=1):
        if not line.strip():
            continue
        with reading(f"'{file}', line {place}"):
            words = line.split()
            if len(words) != 6:
                raise ValueError("it has not six words: frame, object, class, height, width, mask")
            frame, value, number, height, width = (int(word) for word in words[:5])
            if frame not in numbered:
                raise ValueError(f"there is no picture of frame {frame} in '{pictures.folder}'")
            if value // PER_CLASS != number:
                raise ValueError(f"object {value} is not of class {number}")
            size = pictures.size(numbered[frame], (height, width))
            mask = to_rle({"size": [height, width], "counts": words[5]}, *size)
            shapes[frame] += _shapes(value, mask, names)
    return [
        AnnotatedFrame(video, name, pictures.size(name), tuple(shapes[frame]))
        for frame, name in numbered.items()
    ]


def _numbered(pictures: PictureFolder, video: str, file: Path, alone: bool) -> dict[int, str]:
    """The pictures of a video by their numbers, in their order."""
    below = video if (pictures.folder / video).is_dir() else ""
    if not below and not alone:
        raise VisoloError(
            f"there is no folder '{pictures.folder / video}' with frames for '{file}'"
        )
    numbered: dict[int, str] = {}
    for name in pictures.listed(below):
        digits = re.search(r"(\d+)$", PurePosixPath(name).stem)
        if digits and numbered.setdefault(int(digits[1]), name) != name:
            raise VisoloError(
                f"'{numbered[int(digits[1])]}' and '{name}' in '{pictures.folder}' are both frame "
                f"{int(digits[1])}: name the folder of one video with --images"
            )
    return dict(sorted(numbered.items()))
