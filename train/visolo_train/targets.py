"""Where an object is on the grid: centre and extent of its mask."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from visolo_core.errors import VisoloError

Extent = Literal["official", "mask"]


class Centres(NamedTuple):
    """Centre of mass and size of N masks, in pixels; 0, 0, 1, 1 for an empty mask."""

    y: Tensor
    """float32 [N]"""
    x: Tensor
    """float32 [N]"""
    height: Tensor
    """float32 [N]"""
    width: Tensor
    """float32 [N]"""


def mask_centres(masks: Tensor, extent: Extent) -> Centres:
    """Centre of mass and size of each mask.

    Args:
        masks: bool [N, H, W].
        extent: ``mask`` measures the mask itself. ``official`` takes the largest coordinate plus
            one, as the official code does by mistake (its smallest coordinate is always 0), so
            that regions grow with the distance from the top left corner; the paper's figures
            were trained so.

    Raises:
        VisoloError: if ``extent`` is neither.
    """
    if extent not in ("official", "mask"):
        raise VisoloError(f"extent '{extent}' is unknown: choose official or mask")
    sides = []
    area = masks.sum(dim=(1, 2)).clamp(min=1)
    for axis in (1, 2):
        length = masks.shape[axis]
        position = torch.arange(length, device=masks.device)
        count = masks.sum(dim=3 - axis)  # pixels in each row, or column
        centre = (count * position).sum(dim=1) / area
        occupied = count > 0
        last = torch.where(occupied, position, 0).amax(dim=1)
        first = torch.where(occupied, position, length).amin(dim=1).clamp(max=length - 1)
        size = last + 1 if extent == "official" else (last - first + 1).clamp(min=1)
        sides.append((centre.float(), size.float()))
    (y, height), (x, width) = sides
    return Centres(y, x, height, width)
