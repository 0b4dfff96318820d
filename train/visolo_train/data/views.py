"""The lowest layer of a composed clip: a picture or a video seen by a camera that moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from visolo_train.data.synthetic import Random

Matrix = NDArray[np.float64]
"""[2, 3]: where in the source a pixel of the result comes from, both as x, y."""


@dataclass(frozen=True)
class View:
    """The way of a camera over a picture; time runs from 0 to 1 through a clip."""

    middle: NDArray[np.float64]
    """[2, 2]: x, y of the picture at the frame's middle, at the beginning and at the end"""
    scale: tuple[float, float]
    """Pixels of the frame for one of the picture, at the beginning and at the end."""
    angle: tuple[float, float]
    """Radians, likewise."""
    shake: NDArray[np.float64]
    """[2]: how far it trembles, in pixels of the picture"""
    mirrored: bool

    def matrix(self, random: Random, time: float, size: tuple[int, int], width: int) -> Matrix:
        """From the frame, (H, W), to the picture, which is ``width`` pixels wide."""
        x, y = self.middle[0] * (1 - time) + self.middle[1] * time + random.normal(0, self.shake)
        scale = self.scale[0] ** (1 - time) * self.scale[1] ** time
        angle = self.angle[0] * (1 - time) + self.angle[1] * time
        cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
        turn = np.array([[cos, sin], [-sin, cos]])
        offset = np.array([x, y]) - turn @ (size[1] / 2, size[0] / 2)
        matrix = np.column_stack([turn, offset])
        if self.mirrored:
            matrix[0] = -matrix[0]
            matrix[0, 2] += width
        return matrix


def backdrop_view(random: Random, picture: tuple[int, int], size: tuple[int, int]) -> View:
    """A view of a picture (h, w) that fills a frame (H, W) at all times."""
    angles = float(random.uniform(-0.05, 0.05)) + random.uniform(-0.03, 0.03, 2)
    tilt = np.abs(angles).max()
    cos, sin = np.cos(tilt), np.sin(tilt)
    needed = np.array([size[1] * cos + size[0] * sin, size[0] * cos + size[1] * sin])
    fit = float((needed / picture[::-1]).max())
    scale = fit * random.uniform(1.02, 1.5) * np.exp(random.uniform(-0.06, 0.06, 2))
    scale = np.maximum(scale, fit * 1.01)
    margin = np.maximum(0, np.array(picture[::-1]) - needed / scale.min()) / 2
    place = random.uniform(-1, 1, (2, 2))
    if random.random() < 0.6:  # slow cameras are the most common ones
        place[1] = place[0] + (place[1] - place[0]) * random.random() * 0.3
    middle = np.array(picture[::-1]) / 2 + place * margin
    shake = np.minimum(margin / 4, random.uniform(0, 1.5)) * (random.random() < 0.5)
    return View(
        np.clip(middle, needed / scale.min() / 2, picture[::-1] - needed / scale.min() / 2),
        (float(scale[0]), float(scale[1])),
        (float(angles[0]), float(angles[1])),
        shake,
        bool(random.random() < 0.5),
    )


def photo_view(
    random: Random,
    picture: tuple[int, int],
    size: tuple[int, int],
    box: tuple[int, int, int, int] | None,
) -> View:
    """A view of a photo (h, w) as a video: near or far, turned, shifted.

    Args:
        random: of the clip.
        picture: (h, w) of the photo.
        size: (H, W) of the frame.
        box: of an object that has to be in view: left, top, right, bottom.
    """
    sides = np.array(size[::-1]) / picture[::-1]
    low, high = float(sides.min()) * 0.8, float(sides.max()) * 1.35
    if box is not None:  # an object should not be much larger than the frame
        room = np.array(size[::-1]) / [box[2] - box[0], box[3] - box[1]]
        high = max(low * 1.05, min(high, 1.3 * float(room.min())))
    base = float(np.exp(random.uniform(np.log(low), np.log(high))))
    scale = base * np.exp(random.uniform(-0.1, 0.1, 2))
    angles = float(random.uniform(-0.14, 0.14)) + random.uniform(-0.05, 0.05, 2)
    visible = np.array(size[::-1]) / base
    whole = np.array(picture[::-1])
    if box is None:
        middle = whole * random.uniform(0.2, 0.8, 2)
    else:
        target = np.array([box[0] + box[2], box[1] + box[3]]) / 2
        middle = target + random.uniform(-0.3, 0.3, 2) * visible
    # Where the photo is larger than the frame it fills it; where smaller, it is in it as a whole.
    low_end, high_end = np.minimum(visible, whole) / 2, whole - np.minimum(visible, whole) / 2
    middle = np.clip(middle, low_end, high_end)
    drift = random.normal(0, 0.06, 2) * visible
    trembling = np.full(2, random.uniform(0, 1.5) * (random.random() < 0.5))
    return View(
        np.stack([middle, middle + drift]),
        (float(scale[0]), float(scale[1])),
        (float(angles[0]), float(angles[1])),
        trembling,
        bool(random.random() < 0.5),
    )


def warped(
    picture: NDArray[np.uint8],
    matrix: Matrix,
    size: tuple[int, int],
    fill: Sequence[int] | int = 0,
) -> NDArray[np.uint8]:
    """A picture through a matrix.

    Args:
        picture: uint8 [h, w, 3], [h, w, 4] with opacity, or [h, w] of numbers that cannot be mixed.
        matrix: from the result to the picture.
        size: (H, W) of the result.
        fill: outside of the picture.
    """
    height, width = size
    image = Image.fromarray(picture)
    method = Image.Resampling.NEAREST if picture.ndim == 2 else Image.Resampling.BILINEAR
    data = (*matrix[0].tolist(), *matrix[1].tolist())
    colour = tuple(fill) if isinstance(fill, Sequence) else fill
    return np.asarray(
        image.transform((width, height), Image.Transform.AFFINE, data, method, fillcolor=colour)
    )
