"""Augmentation of the frames of a training clip (paper, section 4.1).

Mirroring and size are drawn once per clip; an angle and a crop are drawn for each frame. They are
drawn here, with the clip's own generator, so that a clip can be reproduced; torchvision processes
the pictures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from visolo_core.nn.visolo import PIXEL_MEAN


@dataclass(frozen=True)
class Augmentation:
    """How frames are turned into the network's input."""

    input_size: tuple[int, int]
    """(H, W) of the network."""
    short_sides: tuple[int, ...] = ()
    """Lengths in pixels. A clip draws one for the shorter side of its frames, and the input is
    cropped from the resized frames. If empty, frames are resized straight to the input's size."""
    rotation: float = 0.0
    """Frames are rotated by up to this many degrees in either direction."""
    flip: bool = True
    """Mirror half of the clips."""


@dataclass(frozen=True)
class ClipDraw:
    """What was drawn for a whole clip."""

    mirrored: bool
    short_side: int | None


def draw_for_clip(random: np.random.Generator, augmentation: Augmentation) -> ClipDraw:
    """Draw what all frames of a clip share."""
    mirrored = augmentation.flip and bool(random.random() < 0.5)
    sides = augmentation.short_sides
    return ClipDraw(mirrored, int(random.choice(sides)) if sides else None)


def augment(
    random: np.random.Generator,
    augmentation: Augmentation,
    clip: ClipDraw,
    picture: Tensor,
    masks: Tensor,
) -> tuple[Tensor, Tensor]:
    """One frame and its masks as input of the network.

    Args:
        random: of the clip; the angle and the place of the crop are drawn from it.
        augmentation: what may be drawn.
        clip: what was drawn for the clip.
        picture: uint8 [3, h, w].
        masks: bool [L, h, w].

    Returns:
        uint8 [3, H, W] and bool [L, H, W]. A frame smaller than the crop is padded at
        the right and at the bottom, with the mean colour and no object.
    """
    image, objects = tv_tensors.Image(picture), tv_tensors.Mask(masks)
    if clip.mirrored:
        image, objects = F.horizontal_flip(image), F.horizontal_flip(objects)
    size = _scaled(picture, augmentation.input_size, clip.short_side)
    if size != list(picture.shape[-2:]):
        image, objects = F.resize(image, size, antialias=True), F.resize(objects, size)
    angle = float(random.uniform(-1, 1)) * augmentation.rotation if augmentation.rotation else 0.0
    top = left = 0
    if clip.short_side is not None:
        height, width = augmentation.input_size
        top = int(random.integers(max(0, size[0] - height) + 1))
        left = int(random.integers(max(0, size[1] - width) + 1))
    if angle:
        return _turned(image, objects, angle, top, left, augmentation.input_size)
    image = _cut(image, top, left, augmentation.input_size, list(PIXEL_MEAN))
    objects = _cut(objects, top, left, augmentation.input_size, 0)
    return image.as_subclass(Tensor), objects.as_subclass(Tensor)


def _turned(
    image: Tensor, masks: Tensor, degrees: float, top: int, left: int, size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """A crop of a frame rotated about its centre.

    The same as ``rotate`` and then ``crop`` of torchvision, in a fifth of the time: only the
    crop is computed, and all masks at once. Outside the frame is the mean colour.

    Args:
        image: uint8 [3, h, w].
        masks: bool [L, h, w].
        degrees: counter-clockwise.
        top, left: of the part, in pixels of the turned frame.
        size: (H, W) of the part.
    """
    height, width = image.shape[-2:]
    angle = math.radians(degrees)
    cos, sin = math.cos(angle), math.sin(angle)
    y = torch.arange(size[0])[:, None] + (top + 0.5 - height / 2)
    x = torch.arange(size[1])[None, :] + (left + 0.5 - width / 2)
    # Pixels from the middle, in the turned frame and in the frame, in which 1 is the edge.
    grid = torch.stack(
        [(cos * x - sin * y) * (2 / width), (sin * x + cos * y) * (2 / height)], dim=-1
    )[None]
    mean = torch.tensor(PIXEL_MEAN)[:, None, None]
    # Relative to the mean colour, so that the zeros outside the frame become the mean.
    colours = image.as_subclass(Tensor).float().sub_(mean)
    turned = grid_sample(colours[None], grid, align_corners=False)[0] + mean
    objects = masks.as_subclass(Tensor).float()[None]
    visible = grid_sample(objects, grid, mode="nearest", align_corners=False)[0]
    return turned.round_().to(torch.uint8), visible > 0.5


def _scaled(picture: Tensor, input_size: tuple[int, int], short_side: int | None) -> list[int]:
    """Height and width after resizing; the aspect ratio is kept where a short side is given."""
    if short_side is None:
        return list(input_size)
    height, width = picture.shape[-2:]
    scale = short_side / min(height, width)
    return [max(1, round(height * scale)), max(1, round(width * scale))]


def _cut(
    picture: Tensor, top: int, left: int, size: tuple[int, int], fill: float | list[float]
) -> Tensor:
    part = picture[..., top : top + size[0], left : left + size[1]]
    missing = size[0] - part.shape[-2], size[1] - part.shape[-1]
    if missing == (0, 0):
        return part
    filled: Tensor = F.pad(part, [0, 0, missing[1], missing[0]], fill=fill)
    return filled


def channels_first(pixels: np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]) -> Tensor:
    """uint8 [3, h, w] of uint8 [h, w, 3]."""
    return torch.from_numpy(pixels).permute(2, 0, 1)
