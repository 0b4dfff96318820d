"""A generated video, always the same: textured shapes that move over a moving background.

It is used where there is no real video: by ``visolo verify`` and ``visolo bench`` without a source,
by benchmarks and by tests. Shapes cross each other, leave the frame and come back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class _Shape:
    corners: int  # 0 for an ellipse
    centre: tuple[float, float]  # y, x as shares of the frame
    sweep: tuple[float, float]  # how far it swings, as shares of the frame
    period: float  # frames of a full swing
    radius: float  # as a share of the frame's height
    colours: tuple[tuple[int, int, int], tuple[int, int, int]]


_SHAPES = (
    _Shape(0, (0.35, 0.30), (0.10, 0.22), 40, 0.20, ((230, 60, 40), (250, 190, 60))),
    _Shape(4, (0.60, 0.65), (0.15, -0.25), 56, 0.17, ((40, 70, 210), (60, 210, 220))),
    _Shape(3, (0.75, 0.30), (-0.12, 0.30), 48, 0.19, ((30, 170, 60), (190, 230, 90))),
    _Shape(0, (0.25, 0.90), (0.10, 0.25), 64, 0.14, ((240, 240, 240), (60, 60, 60))),
)


def sample_frames(frames: int, height: int = 360, width: int = 640) -> Iterator[NDArray[np.uint8]]:
    """Frames uint8 [height, width, 3] RGB of the generated video.

    Args:
        frames: how many. A shorter video of the same size is the beginning of a longer one.
        height, width: in pixels.
    """
    y = np.arange(height)[:, None] / height
    x = (
        np.arange(width)[None, :] / height
    )  # in units of the height, so that shapes are not stretched
    for frame in range(frames):
        image = _background(y, x, frame)
        for shape in _SHAPES:
            _paint(image, shape, y, x, width / height, frame)
        yield image.astype(np.uint8)


def _background(y: NDArray[np.float64], x: NDArray[np.float64], frame: int) -> NDArray[np.float64]:
    waves = np.sin(9 * x + 4 * y + 0.05 * frame) + np.sin(5 * x - 11 * y - 0.03 * frame)
    grey = 105 + 18 * waves
    return np.stack([grey, grey + 8, grey + 16], axis=-1)


def _paint(
    image: NDArray[np.float64],
    shape: _Shape,
    y: NDArray[np.float64],
    x: NDArray[np.float64],
    aspect: float,
    frame: int,
) -> None:
    turn = 2 * np.pi * frame / shape.period
    dy = y - (shape.centre[0] + shape.sweep[0] * np.cos(turn))
    dx = x - (shape.centre[1] + shape.sweep[1] * np.sin(turn)) * aspect
    inside = _inside(shape, dy, dx, 0.02 * frame)
    checks = (np.floor(dx / 0.04) + np.floor(dy / 0.04)) % 2 == 0
    image[inside] = np.where(checks[..., None], *shape.colours)[inside]


def _inside(
    shape: _Shape, dy: NDArray[np.float64], dx: NDArray[np.float64], angle: float
) -> NDArray[np.bool_]:
    if shape.corners == 0:
        return np.asarray((dx / 1.2) ** 2 + dy**2 <= shape.radius**2)
    # A regular polygon is the intersection of half planes.
    normals = angle + 2 * np.pi * np.arange(shape.corners) / shape.corners
    apothem = shape.radius * np.cos(np.pi / shape.corners)
    planes = [np.cos(normal) * dx + np.sin(normal) * dy <= apothem for normal in normals]
    return np.asarray(np.logical_and.reduce(planes))
