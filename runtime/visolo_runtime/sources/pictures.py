"""Pictures as frames: files one by one, and those of a folder or a pattern as a clip."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from visolo_runtime.sources.clip import Clip, Skipped, SourceFrame, at_constant_rate
from visolo_runtime.sources.frame_names import missing_numbers
from visolo_runtime.video.frames import Picture


def read_image(path: Path) -> Picture | Skipped:
    """An image file as uint8 [H, W, 3] RGB."""
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return Skipped(f"{path.name}: {error}")


def frames_of_pictures(files: Iterable[Path]) -> Iterator[SourceFrame | Skipped]:
    """Pictures as the frames of a video."""
    return at_constant_rate(map(read_image, files))


def clip_of_pictures(files: list[Path]) -> Clip:
    """Pictures as the frames of one clip, in the order of the numbers in their names."""
    files = sorted(files, key=lambda path: natural_order(str(path)))
    names = tuple(file.name for file in files)
    missing = missing_numbers(names)
    return Clip(
        1,
        files[0].absolute().parent.name,
        lambda: frames_of_pictures(files),
        length=len(files),
        frame_names=names,
        files=tuple(files),
        notes=(missing,) if missing else (),
    )


def natural_order(name: str) -> list[tuple[int, int, str]]:
    """A sort key that puts frame10 after frame9."""
    # Splitting at a group puts the numbers in every second position. A longer number is a larger
    # one; Python refuses to convert very long ones.
    return [
        (1, len(part.lstrip("0")), part.lstrip("0")) if place % 2 else (0, 0, part.lower())
        for place, part in enumerate(re.split(r"([0-9]+)", name))
    ]
