"""Training targets: which cells of the grid belong to which object."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from visolo_core.errors import VisoloError

Extent = Literal["official", "mask"]
CENTRE_SHARE = 0.1  # of its height or width, to each side of the centre


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
            that regions grow with the distance from the top left corner; the paper's networks
            were trained that way.

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


def assign_cells(masks: Tensor, grid: tuple[int, int], extent: Extent) -> Tensor:
    """Which object each cell of a frame belongs to.

    A cell belongs to an object if it touches the object's central region: a tenth of its height
    and width to each side of its centre of mass. Of several objects, the cell belongs to the one
    whose centre is nearest to its own (distances in cells).

    Args:
        masks: bool [F, L, H, W], the L objects in F frames; empty where not visible.
        grid: rows and columns of cells.
        extent: see :func:`mask_centres`.

    Returns:
        int64 [F, S], index of the object, or -1.
    """
    frames, objects, *size = masks.shape
    if objects == 0:
        return torch.full((frames, grid[0] * grid[1]), -1, device=masks.device)
    centres = mask_centres(masks.flatten(0, 1), extent)
    inside, distance = [], []
    sides = ((centres.y, centres.height), (centres.x, centres.width))
    for (centre, length), pixels, cells in zip(sides, size, grid, strict=True):
        position = torch.arange(cells, device=masks.device)
        low, high = (
            ((centre + way * CENTRE_SHARE * length) / pixels * cells).floor() for way in (-1, 1)
        )
        inside.append((position >= low[:, None]) & (position <= high[:, None]))
        distance.append((position + 0.5 - centre[:, None] / pixels * cells) ** 2)
    far = distance[0][:, :, None] + distance[1][:, None, :]
    visible = masks.flatten(0, 1).flatten(1).any(dim=1)
    covered = inside[0][:, :, None] & inside[1][:, None, :] & visible[:, None, None]
    far = far.masked_fill(~covered, torch.inf).view(frames, objects, -1)
    nearest, owner = far.min(dim=1)
    return torch.where(nearest.isfinite(), owner, -1)
