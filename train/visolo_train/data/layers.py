"""Pasting one layer: a cut-out in its pose, over an image and its map of objects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from visolo_runtime.video.frames import Picture
from visolo_train.data.camera import smeared
from visolo_train.data.pasted_path import PastedPath, Pose
from visolo_train.data.synthetic import Random

_BENT = 0.5  # of those that may be
_STRIPS = 12  # of a posture: inside each, pixels are moved in straight lines
_BILINEAR = Image.Resampling.BILINEAR
Numbers = NDArray[np.uint8]
"""[H, W]: 0, or the number of the object that a pixel belongs to."""


@dataclass(frozen=True)
class Bend:
    """How a posture differs from that of a photo: rows are moved sideways and up or down, the first
    and the last of them only sideways."""

    bow: float
    """How far the middle is moved against both ends, in heights."""
    wave: tuple[float, float]
    """How far a wave from top to bottom moves rows aside, in heights, and its phase in radians."""
    squat: float
    """How far the middle is moved down, in half heights; less than .5 either way."""

    def applied(self, image: Image.Image) -> Image.Image:
        """An image in RGBA in this posture, as much wider as it takes."""
        height = image.height
        rows = np.rint(np.linspace(0, height, _STRIPS + 1))
        edges = 2 * rows / height - 1
        aside = self.bow * (edges**2 - 1 / 3) + self.wave[0] * np.sin(3 * edges + self.wave[1])
        aside = (aside - aside.mean()) * height
        margin = int(np.ceil(np.abs(aside).max()))
        width = image.width + 2 * margin
        source = (edges - self.squat * (1 - edges**2) + 1) / 2 * height
        strips = []
        for at in range(_STRIPS):
            top, bottom = (int(each) for each in rows[at : at + 2])
            (upper, lower), (first, last) = source[at : at + 2], aside[at : at + 2] - margin
            quad = (first, upper, last, lower, last + width, lower, first + width, upper)
            strips.append(((0, top, width, bottom), tuple(map(float, quad))))
        return image.transform((width, height), Image.Transform.MESH, strips, _BILINEAR)


def draw_bend(random: Random) -> Bend:
    """Another posture: leaning, bent over or crouching."""
    return Bend(
        bow=float(random.normal(0, 0.15)),
        wave=(float(random.uniform(0, 0.08)), float(random.uniform(0, 2 * np.pi))),
        squat=float(random.uniform(-0.25, 0.35)),
    )


@dataclass(frozen=True)
class Look:
    """How a cut-out differs from its photo, in all frames of a clip."""

    mirrored: bool
    gain: tuple[float, float, float]
    """Of each channel."""
    softness: float
    """Radius in pixels by which its edge is softened."""
    trimmed: bool
    """Without its outermost pixels, which often show what was behind it."""
    blur: float
    """The share of its way from frame to frame that blurs it, as an open shutter does."""
    bend: Bend | None = None
    """Another posture than in its photo."""

    def seen(self, cut: tuple[bool, bool, bool, bool]) -> tuple[bool, bool, bool, bool]:
        """The edges left, top, right, bottom at which it is cut off, as it is shown."""
        left, top, right, bottom = cut
        return (right, top, left, bottom) if self.mirrored else cut


def draw_look(random: Random, supple: bool = False) -> Look:
    """The look of a cut-out, which is supple if it may be in another posture."""
    gain = np.exp(random.normal(0, 0.15) + random.normal(0, 0.05, 3))
    return Look(
        mirrored=bool(random.random() < 0.5),
        gain=(float(gain[0]), float(gain[1]), float(gain[2])),
        softness=float(random.uniform(0.3, 1.2)) if random.random() < 0.5 else 0.0,
        trimmed=bool(random.random() < 0.4),
        blur=float(random.uniform(0.2, 0.8)) if random.random() < 0.5 else 0.0,
        bend=draw_bend(random) if supple and random.random() < _BENT else None,
    )


def finished(pixels: NDArray[np.uint8], look: Look, height: float) -> NDArray[np.uint8]:
    """A cut-out [h, w, 4] with its look, resized to a height in pixels."""
    image = Image.fromarray(np.ascontiguousarray(pixels[:, ::-1] if look.mirrored else pixels))
    scale = height / image.height
    size = (max(2, round(image.width * scale)), max(2, round(height)))
    image = image.resize(size, Image.Resampling.BILINEAR)
    if look.bend is not None and min(size) > _STRIPS:
        image = look.bend.applied(image)
    opacity = image.getchannel("A")
    if look.trimmed and min(size) > 24:
        opacity = opacity.filter(ImageFilter.MinFilter(3))
    if look.softness and min(size) > 12:
        opacity = opacity.filter(ImageFilter.GaussianBlur(look.softness))
    table = np.clip(np.arange(256)[:, None] * np.array(look.gain), 0, 255).astype(np.uint8)
    colours = np.asarray(image)
    channels = [table[:, at][colours[..., at]] for at in range(3)]
    return np.stack([*channels, np.asarray(opacity)], axis=-1)


def silhouette(
    random: Random, picture: Picture, outline: NDArray[np.uint8] | None, height: float
) -> NDArray[np.uint8]:
    """A piece of a picture as scenery, uint8 [h, w, 4].

    Args:
        random: of the clip.
        picture: uint8 [H, W, 3].
        outline: uint8 [h, w], the opacity of some cut-out, whose outline the piece may take.
        height: of the piece, in pixels.
    """
    shape = random.random()
    aspect = float(np.exp(random.uniform(-1.0, 1.0)))
    if outline is not None and shape < 0.4:
        aspect = outline.shape[1] / outline.shape[0]
    elif shape < 0.7:  # a pole
        aspect, height = float(random.uniform(0.05, 0.25)), height * 3
    rows = int(np.clip(height, 4, picture.shape[0]))
    columns = int(np.clip(height * aspect, 4, picture.shape[1]))
    top = int(random.integers(picture.shape[0] - rows + 1))
    left = int(random.integers(picture.shape[1] - columns + 1))
    piece = picture[top : top + rows, left : left + columns]
    if outline is not None and shape < 0.4:
        resized = Image.fromarray(outline).resize((columns, rows), Image.Resampling.BILINEAR)
        opacity = np.asarray(resized)
    elif shape < 0.7:
        opacity = np.full((rows, columns), 255, np.uint8)
    else:
        y, x = np.linspace(-1, 1, rows)[:, None], np.linspace(-1, 1, columns)
        opacity = np.where(y**2 + x**2 <= 1, 255, 0).astype(np.uint8)
    return np.dstack([piece, opacity])


def paste(
    image: Picture,
    owners: Numbers,
    owner: int,
    pixels: NDArray[np.uint8],
    path: PastedPath,
    frame: int,
    blur: float,
) -> None:
    """Paste a layer onto an image, and into the map of objects.

    Args:
        image: uint8 [H, W, 3]; it is changed.
        owners: its map; it is changed.
        owner: the layer's number.
        pixels: uint8 [h, w, 4].
        path: of the layer.
        frame: number of the frame.
        blur: share of its way to the next frame that blurs it.
    """
    pose = path.pose(frame)
    speed = path.velocity(frame)
    length = blur * float(np.hypot(*speed)) if blur else 0.0
    turned = _turn(pixels, pose)
    half = np.array(pixels.shape[1::-1]) / 2
    corners = turned @ (np.array([[-1, 1, 1, -1], [-1, -1, 1, 1]]) * half[:, None])
    reach = np.abs(corners).max(axis=1) + length / 2 + 1
    low = np.floor(np.maximum(np.array([pose.x, pose.y]) - reach, 0)).astype(int)
    high = np.ceil(np.minimum(np.array([pose.x, pose.y]) + reach, image.shape[1::-1])).astype(int)
    if (high <= low).any():
        return
    back = np.asarray(np.linalg.inv(turned), np.float64)
    offset = half + back @ (low - [pose.x, pose.y])
    data = (*back[0].tolist(), offset[0], *back[1].tolist(), offset[1])
    width, height = (high - low).tolist()
    layer = np.asarray(
        Image.fromarray(pixels).transform(
            (width, height), Image.Transform.AFFINE, data, Image.Resampling.BILINEAR
        )
    )
    box = np.s_[low[1] : high[1], low[0] : high[0]]
    opacity = layer[..., 3:].astype(np.float32) / np.float32(255)
    colours = layer[..., :3].astype(np.float32) * opacity
    if length > 2:
        both = np.concatenate([colours, opacity], axis=-1)
        both = smeared(both, length, float(np.arctan2(speed[1], speed[0])))
        colours, opacity = both[..., :3], both[..., 3:]
    image[box] = np.rint(image[box] * (1 - opacity) + colours)
    owners[box][opacity[..., 0] >= 0.5] = owner


def _turn(pixels: NDArray[np.uint8], pose: Pose) -> NDArray[np.float64]:
    """[2, 2]: from the cut-out's pixels, counted from its middle, to those of the frame."""
    scale = pose.height / pixels.shape[0]
    shape = np.array([[scale * pose.stretch, scale * pose.shear], [0.0, scale]])
    cos, sin = np.cos(pose.angle), np.sin(pose.angle)
    turn: NDArray[np.float64] = np.array([[cos, -sin], [sin, cos]]) @ shape
    return turn
