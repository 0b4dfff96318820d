"""Where a pasted object is, how large, how turned, at any time of a clip."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from visolo_train.data.synthetic import Random

_FASTEST = 0.045  # of the frame's height, in a frame
_TUMBLING = 0.15  # of the objects lie or lean far over, as dancers and skaters do


class Pose(NamedTuple):
    """An object in one frame."""

    x: float
    y: float
    """Its middle, in pixels of the frame."""
    height: float
    """In pixels, before it is turned."""
    angle: float
    """Radians, clockwise as seen."""
    stretch: float
    """Its width over what its height asks for."""
    shear: float


@dataclass(frozen=True)
class PastedPath:
    """A path through a clip of ``frames`` frames of H x W pixels; time is a frame's number."""

    size: tuple[int, int]
    """H, W"""
    start: tuple[float, float]
    """x, y at the first frame"""
    speed: float
    """Pixels a frame."""
    heading: float
    turn: float
    """Radians a frame."""
    height: float
    growth: float
    """The logarithm of its height grows by this in a frame."""
    tilt: float
    swing: tuple[float, float, float]
    """Of the angle: radians, radians a frame, phase."""
    bend: tuple[float, float]
    """How far it stretches and shears."""
    away: tuple[float, float, float]
    """It is away between two frames, by so many pixels; 0, 0, 0 for one that stays."""
    cut: tuple[bool, bool, bool, bool]
    """Whether it stands at the left, top, right and bottom edge of the frame, since its picture
    ended there."""
    aspect: float
    """Its width over its height."""

    def velocity(self, frame: float) -> tuple[float, float]:
        """x, y in pixels a frame."""
        heading = self.heading + self.turn * frame
        return self.speed * float(np.cos(heading)), self.speed * float(np.sin(heading))

    def pose(self, frame: float) -> Pose:
        """Where it is."""
        middle = self.heading + self.turn * frame / 2
        # The chord of an arc: all the same whether the path bends or not.
        chord = self.speed * frame * float(np.sinc(self.turn * frame / (2 * np.pi)))
        x = self.start[0] + chord * float(np.cos(middle))
        y = self.start[1] + chord * float(np.sin(middle))
        first, last, far = self.away
        if far and first < frame < last:
            x += far * float(np.sin(np.pi * (frame - first) / (last - first)))
        height = self.height * float(np.exp(self.growth * frame))
        size, rate, phase = self.swing
        wave = float(np.sin(rate * frame + phase))
        angle = self.tilt + size * wave
        x, y = self._at_edges(x, y, height, angle)
        return Pose(x, y, height, angle, 1 + self.bend[0] * wave, self.bend[1] * wave)

    def _at_edges(self, x: float, y: float, height: float, angle: float) -> tuple[float, float]:
        """What a picture cut off has to stay beyond the frame's edge."""
        lean = abs(float(np.sin(angle))) / 2
        half_x = height * (self.aspect / 2 - lean)
        half_y = height * (0.5 - lean * self.aspect)
        left, top, right, bottom = self.cut
        x = min(x, half_x) if left else x
        x = max(x, self.size[1] - half_x) if right else x
        y = min(y, half_y) if top else y
        y = max(y, self.size[0] - half_y) if bottom else y
        return x, y

    def slowed(self, share: float) -> PastedPath:
        """The same path at a share of its speed."""
        return replace(self, speed=self.speed * share, away=(0.0, 0.0, 0.0))

    @property
    def largest(self) -> float:
        """An upper bound of its height in the first 36 frames, in pixels."""
        return self.height * float(np.exp(max(0.0, self.growth) * 36))


def draw_pasted_path(
    random: Random,
    frames: int,
    size: tuple[int, int],
    height: float,
    aspect: float,
    cut: tuple[bool, bool, bool, bool],
) -> PastedPath:
    """A path: along an arc, sometimes out of the frame and back.

    Args:
        random: of the clip.
        frames: of the clip.
        size: H, W of the frame.
        height: of the object, in pixels.
        aspect: its width over its height.
        cut: where its picture cut it off.
    """
    steady = any(cut)
    speed = random.uniform(0, _FASTEST) * size[0] * (0.3 if random.random() < 0.4 else 1.0)
    leaves = random.random() < 0.12
    start = random.uniform(0.08, 0.92, 2) * size[::-1]
    tilt = random.normal(0, 0.03 if steady else 0.12)
    if not steady and random.random() < _TUMBLING:
        tilt = random.uniform(-1.5, 1.5)
    far = size[1] * random.uniform(0.5, 0.9) * (1 if start[0] > size[1] / 2 else -1)
    return PastedPath(
        size=size,
        start=(float(start[0]), float(start[1])),
        speed=float(speed),
        heading=float(random.uniform(0, 2 * np.pi)),
        turn=float(random.uniform(-0.08, 0.08)),
        height=height,
        growth=float(random.uniform(-0.015, 0.015)),
        tilt=float(tilt),
        swing=(
            float(random.uniform(0, 0.04 if steady else 0.12)),
            float(random.uniform(0.1, 0.6)),
            float(random.uniform(0, 2 * np.pi)),
        ),
        bend=(float(random.uniform(0, 0.1)), float(random.uniform(0, 0.1))),
        away=(frames * 0.25, frames * 0.75, float(far)) if leaves else (0.0, 0.0, 0.0),
        cut=cut,
        aspect=aspect,
    )


def beside(
    path: PastedPath,
    offset: NDArray[np.float64],
    height: float,
    aspect: float,
    cut: tuple[bool, bool, bool, bool],
) -> PastedPath:
    """The path of an object that goes along with another.

    Args:
        path: of the other.
        offset: [2], x, y from its middle, in pixels.
        height, aspect, cut: of this one.
    """
    start = path.start[0] + float(offset[0]), path.start[1] + float(offset[1])
    return replace(path, start=start, height=height, aspect=aspect, cut=cut)
