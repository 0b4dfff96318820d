"""A small video with exact masks, which other programs' files in the tests describe."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

FRAMES, SIZE = 3, (24, 40)
LABELS = ("disc", "square")
TRACKS = (("disc", 1), ("square", 2), ("disc", 3))
"""Label and number of each object."""
POLYGON = ((4.0, 15.0), (12.0, 15.0), (12.0, 22.0), (4.0, 22.0))
"""x and y of corners in pixels, in every frame."""


def masks() -> NDArray[np.bool_]:
    """bool [frames, tracks, H, W]; no two overlap. One has a hole, one two parts, two are not in
    every frame, and one touches the frame's corner."""
    drawn = np.zeros((FRAMES, len(TRACKS), *SIZE), bool)
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    for frame in range(FRAMES):
        distance = np.hypot(rows - 8, columns - 9 - 2 * frame)
        drawn[frame, 0] = (distance < 6.5) & (distance > 2)
        if frame != 1:
            drawn[frame, 1, 17 : 21 + frame, 20:24] = True
            drawn[frame, 1, 18, 27:31] = True
        if frame > 0:
            drawn[frame, 2, : 3 + frame, 36 - frame :] = True
    return drawn


def write_pictures(folder: Path, names: tuple[str, ...]) -> None:
    """Write the frames."""
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        picture = np.full((*SIZE, 3), 40 * number + 20, np.uint8)
        Image.fromarray(picture).save(folder / name)
