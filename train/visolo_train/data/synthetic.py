"""Annotated videos that are drawn, not filmed; a seed determines a video.

Textured shapes of the label set ``shapes`` move, turn and change size over a moving textured
background; they occlude one another, leave the frame and come back. Some are twins, alike in class,
texture and colour, so that only the memory of where each was can tell them apart. Small blobs
that belong to the background have the shapes' colours and are not objects.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visolo_core.decoding import Floats
from visolo_runtime.video.frames import Picture

Bits = NDArray[np.bool_]
Random = np.random.Generator

MAX_OBJECTS = 4
TWIN_SHARE = 0.35  # of the videos with several objects
_GRAIN = 6.0  # standard deviation of the sensor's noise, in 0 to 255, at most


@dataclass(frozen=True)
class SyntheticClip:
    """A drawn video and what is in it."""

    frames: Picture
    """uint8 [F, H, W, 3] RGB"""
    category_ids: tuple[int, ...]
    """Of the L objects, 1 to 6 as in the label set ``shapes``."""
    masks: Bits
    """bool [F, L, H, W], what is visible of each object"""
    annotated: tuple[int, ...] | None = None
    """Category ids of which every object is among the L; None means all categories."""


@dataclass(frozen=True)
class _Look:
    """How an object looks, regardless of where it is."""

    category_id: int
    texture: int
    colours: Floats  # [2, 3]
    spacing: float  # of the texture, as a share of the radius
    fullness: float  # 0 to 1, from a thin ring, star or cross to a stout one


@dataclass(frozen=True)
class ObjectPath:
    """Where an object is: position y, x in pixels, radius in pixels, and angle, for every frame."""

    centre: NDArray[np.float64]  # [F, 2]
    radius: NDArray[np.float64]  # [F]
    angle: NDArray[np.float64]  # [F]


def draw_clip(
    seed: int,
    number: int,
    frames: int,
    height: int,
    width: int,
    positions: Sequence[int] | None = None,
) -> SyntheticClip:
    """One video, or some frames of it.

    Args:
        seed: of the data set.
        number: of the video in it.
        frames, height, width: size of the video.
        positions: numbers of the frames to draw, in any order; None draws all.
    """
    random = np.random.Generator(np.random.Philox(key=np.array([seed, number], np.uint64)))
    count = int(random.integers(1, MAX_OBJECTS + 1))
    looks = [_draw_look(random) for _ in range(count)]
    if count > 1 and random.random() < TWIN_SHARE:
        looks[1] = looks[0]
    paths = [draw_path(random, frames, height, width) for _ in range(count)]
    background = _Background(random, frames, height, width)
    grain = random.uniform(0, _GRAIN)

    chosen = range(frames) if positions is None else positions
    video = np.empty((len(chosen), height, width, 3), np.uint8)
    masks = np.zeros((len(chosen), count, height, width), bool)
    for at, frame in enumerate(chosen):
        image = background.draw(frame)
        for index, (look, path) in enumerate(zip(looks, paths, strict=True)):
            _paint(image, masks[at], index, look, path, frame)
        # The noise of a frame is its own, so that a frame is the same whichever others are drawn.
        sensor = np.random.Generator(np.random.SFC64([seed, number, frame]))
        image += sensor.standard_normal((height, width, 1), np.float32) * grain
        video[at] = np.clip(image, 0, 255, out=image)
    return SyntheticClip(video, tuple(look.category_id for look in looks), masks)


# ------------------------------------------------------------------------------- objects


def _draw_look(random: Random) -> _Look:
    colours = random.uniform(0, 255, (2, 3)).astype(np.float32)
    return _Look(
        category_id=int(random.integers(1, len(_SHAPES) + 1)),
        texture=int(random.integers(len(_TEXTURES))),
        colours=colours,
        spacing=random.uniform(0.15, 0.5),
        fullness=random.random(),
    )


def draw_path(random: Random, frames: int, height: int, width: int) -> ObjectPath:
    """An object's path through a video: along an arc, sometimes out of the frame and back."""
    time = np.arange(frames)
    size = np.array([height, width])
    start = random.uniform(0.08, 0.92, 2) * size
    speed = random.uniform(0, 0.045) * height  # pixels a frame
    heading = random.uniform(0, 2 * np.pi)
    turn = random.uniform(-0.08, 0.08)
    headings = heading + turn * time
    steps = speed * np.stack([np.sin(headings), np.cos(headings)], axis=1)
    centre = start + np.cumsum(steps, axis=0) - steps[0]
    if random.random() < 0.12:  # out of the frame and back again
        away = np.sin(np.pi * np.clip((time - frames * 0.25) / (frames * 0.5), 0, 1))
        side = np.array([0.0, width * (1 if start[1] > width / 2 else -1)])
        centre = centre + away[:, None] * side * random.uniform(0.5, 0.9)
    radius = random.uniform(0.07, 0.27) * height
    pulse = 1 + random.uniform(0, 0.35) * np.sin(
        random.uniform(0.1, 0.5) * time + random.uniform(0, 2 * np.pi)
    )
    angle = random.uniform(0, 2 * np.pi) + random.uniform(-0.15, 0.15) * time
    return ObjectPath(centre, np.asarray(radius * pulse), np.asarray(angle, np.float64))


def _paint(
    image: Floats, masks: Bits, index: int, look: _Look, path: ObjectPath, frame: int
) -> None:
    """Draw an object onto an image [H, W, 3], and into the masks [L, H, W] of the frame."""
    height, width = image.shape[:2]
    (y, x), radius = path.centre[frame], path.radius[frame]
    reach = radius * 1.02
    top, bottom = max(0, int(y - reach)), min(height, int(y + reach) + 2)
    left, right = max(0, int(x - reach)), min(width, int(x + reach) + 2)
    if top >= bottom or left >= right:
        return
    dy = ((np.arange(top, bottom)[:, None] - y) / radius).astype(np.float32)
    dx = ((np.arange(left, right)[None, :] - x) / radius).astype(np.float32)
    cos, sin = float(np.cos(path.angle[frame])), float(np.sin(path.angle[frame]))
    u, v = cos * dx + sin * dy, cos * dy - sin * dx
    inside = _SHAPES[look.category_id - 1](u, v, look.fullness)
    second = _TEXTURES[look.texture](u / look.spacing, v / look.spacing)
    colour = np.where(second[..., None], look.colours[1], look.colours[0])
    image[top:bottom, left:right][inside] = colour[inside]
    masks[:index, top:bottom, left:right] &= ~inside  # later objects stand in front
    masks[index, top:bottom, left:right] = inside


def _disc(u: Floats, v: Floats, fullness: float) -> Bits:
    return u**2 + v**2 <= 1


def _square(u: Floats, v: Floats, fullness: float) -> Bits:
    return np.maximum(np.abs(u), np.abs(v)) <= 0.75


def _triangle(u: Floats, v: Floats, fullness: float) -> Bits:
    height = float(np.sqrt(3) / 2)
    sides = height * np.abs(u) + 0.5 * v <= 0.5
    return np.asarray(sides & (v >= -0.5))


def _star(u: Floats, v: Floats, fullness: float) -> Bits:
    # Between two tips the edge is a straight line from radius 1 to the inner radius.
    part = float(np.pi / 5)
    angle = np.abs((np.arctan2(v, u) + part) % (2 * part) - part)
    inner = 0.38 + 0.14 * fullness
    sin, cos = float(np.sin(part)), float(np.cos(part))
    edge = inner * sin / (sin * inner * np.cos(angle) + (1 - inner * cos) * np.sin(angle))
    return np.asarray(np.hypot(u, v) <= edge)


def _cross(u: Floats, v: Floats, fullness: float) -> Bits:
    u, v = np.abs(u), np.abs(v)
    return (np.minimum(u, v) <= 0.24 + 0.14 * fullness) & (np.maximum(u, v) <= 0.95)


def _ring(u: Floats, v: Floats, fullness: float) -> Bits:
    square = u**2 + v**2
    return (square <= 1) & (square >= (0.7 - 0.2 * fullness) ** 2)


_SHAPES: tuple[Callable[[Floats, Floats, float], Bits], ...] = (
    _disc, _square, _triangle, _star, _cross, _ring,
)  # fmt: skip

_TEXTURES: tuple[Callable[[Floats, Floats], Bits], ...] = (
    lambda u, v: np.zeros(np.broadcast_shapes(u.shape, v.shape), bool),  # plain
    lambda u, v: (np.floor(u) % 2 == 0) & np.isfinite(v),  # stripes
    lambda u, v: (np.floor(u) + np.floor(v)) % 2 == 0,  # checks
    lambda u, v: (u % 1 - 0.5) ** 2 + (v % 1 - 0.5) ** 2 < 0.1,  # dots
    lambda u, v: np.floor(np.hypot(u, v)) % 2 == 0,  # rings
)


# ---------------------------------------------------------------------------- background


class _Background:
    """Tinted clouds with a pattern and blobs over them, all drifting together."""

    def __init__(self, random: Random, frames: int, height: int, width: int) -> None:
        drift = random.uniform(-0.012, 0.012, 2) * height
        self._shift = np.rint(np.arange(frames)[:, None] * drift).astype(int)
        margin = int(np.abs(self._shift).max()) + 1
        self._origin = margin
        self._size = height, width
        size = height + 2 * margin, width + 2 * margin
        canvas = _clouds(random, *size)
        if random.random() < 0.55:
            pattern = _pattern(random, *size)[..., None]
            canvas += pattern * (random.uniform(10, 60) * random.random(3)).astype(np.float32)
        for _ in range(int(random.integers(0, 5))):
            _blob(random, canvas)
        self._canvas = np.clip(canvas, 0, 255, out=canvas)

    def draw(self, frame: int) -> Floats:
        """A new image [H, W, 3]."""
        top, left = self._origin + self._shift[frame]
        height, width = self._size
        return self._canvas[top : top + height, left : left + width].copy()


def _clouds(random: Random, height: int, width: int) -> Floats:
    """Noise of one or two grains, brighter in some colours than in others."""
    coarse = random.uniform(6, 60)
    clouds = _noise(random, height, width, coarse)
    if random.random() < 0.5:
        share = np.float32(random.uniform(0.2, 0.6))
        clouds += (_noise(random, height, width, max(4.0, coarse / 4)) - clouds) * share
    tint = random.uniform(0, 255, 3) * random.uniform(0.2, 1) + random.uniform(0, 60)
    contrast = random.uniform(0.3, 2.0) * random.uniform(0.5, 1, 3)
    return np.asarray(tint.astype(np.float32) + contrast.astype(np.float32) * (clouds - 127.5))


def _noise(random: Random, height: int, width: int, coarse: float) -> Floats:
    """Random colours on a coarse lattice, blended into each other or sometimes as blocks."""
    stretch = random.uniform(1, 2) if random.random() < 0.3 else 1.0
    steps = coarse, coarse * stretch
    rows, columns = int(height / steps[0]) + 3, int(width / steps[1]) + 3
    lattice = random.uniform(0, 255, (rows, columns, 3)).astype(np.float32)
    y, x = np.arange(height) / steps[0], np.arange(width) / steps[1]
    top, left = y.astype(int), x.astype(int)
    if random.random() < 0.07:
        return np.asarray(lattice[top][:, left])
    fy = (y - top).astype(np.float32)[:, None, None]
    fx = (x - left).astype(np.float32)[None, :, None]
    across = lattice[:, left] * (1 - fx) + lattice[:, left + 1] * fx
    return np.asarray(across[top] * (1 - fy) + across[top + 1] * fy)


def _pattern(random: Random, height: int, width: int) -> Floats:
    """Waves, straight or round, checks or dots [height, width] in -1 to 1."""
    y = (np.arange(height)[:, None] - random.uniform(0, height)).astype(np.float32)
    x = (np.arange(width)[None, :] - random.uniform(0, width)).astype(np.float32)
    length, angle = random.uniform(8, 50), random.uniform(0, np.pi)
    u = float(np.cos(angle)) * x + float(np.sin(angle)) * y
    v = float(np.cos(angle)) * y - float(np.sin(angle)) * x
    kind = random.integers(4)
    if kind == 0:
        return np.asarray(np.sin(2 * np.pi / length * np.hypot(y, x)))
    if kind == 1:
        return np.asarray(np.sin(2 * np.pi / length * u))
    texture = _TEXTURES[int(kind)]
    scale = length if kind == 3 else length / 2
    shrink = np.float32(1 / scale)
    return np.where(texture(u * shrink, v * shrink), np.float32(1), np.float32(-1))


def _blob(random: Random, canvas: Floats) -> None:
    """A small ellipse, round to thin, that is part of the background."""
    height, width = canvas.shape[:2]
    colour = random.uniform(0, 255, 3)
    centre = random.uniform(0, 1, 2) * (height, width)
    long = random.uniform(5, 22)
    thin = long * random.uniform(0.15, 0.8)
    angle = random.uniform(0, np.pi)
    top, left = np.maximum(0, (centre - long).astype(int))
    bottom, right = (centre + long).astype(int) + 1
    part = canvas[top:bottom, left:right]
    y = np.arange(top, top + part.shape[0])[:, None] - centre[0]
    x = np.arange(left, left + part.shape[1])[None, :] - centre[1]
    u = (np.cos(angle) * x + np.sin(angle) * y) / long
    v = (np.cos(angle) * y - np.sin(angle) * x) / thin
    part[u**2 + v**2 <= 1] = colour
