"""Polygons, boxes and ellipses as masks.

Polygons are filled by COCO's rasteriser, which CVAT and Datumaro use for their exports too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from visolo_core.masks import Masks, Rle, encode_rle
from visolo_train.data.segmentations import to_rle

Size = tuple[int, int]
"""Height and width in pixels."""


def polygon_mask(points: Sequence[Sequence[float]] | NDArray[Any], size: Size) -> Rle:
    """A filled polygon.

    Args:
        points: [N, 2], x and y in pixels; three at least.
        size: of the frame.

    Raises:
        ValueError: if these are not the points of a polygon in the frame.
    """
    corners = np.asarray(points, np.float64)
    if corners.ndim != 2 or corners.shape[1] != 2:
        raise ValueError("its polygon is not a list of points")
    return to_rle([corners.ravel().tolist()], *size)


def box_mask(box: Sequence[float], size: Size, degrees: float = 0) -> Rle:
    """A filled box, turned clockwise around its middle.

    Args:
        box: left, top, right and bottom in pixels.
        size: of the frame.
        degrees: by which it is turned.

    Raises:
        ValueError: if it does not lie in the frame.
    """
    left, top, right, bottom = box
    corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
    return polygon_mask(_turned(corners, corners.mean(axis=0), degrees), size)


def ellipse_mask(ellipse: Sequence[float], size: Size, degrees: float = 0) -> Rle:
    """The pixels whose middle lies in an ellipse that is turned clockwise.

    Args:
        ellipse: x and y of its middle and its two radii, in pixels.
        size: of the frame.
        degrees: by which it is turned.

    Raises:
        ValueError: if a number is not finite or a radius is not positive.
    """
    x, y, radius_x, radius_y = ellipse
    if not np.isfinite([x, y, radius_x, radius_y, degrees]).all() or min(radius_x, radius_y) <= 0:
        raise ValueError("its ellipse has no extent")
    rows, columns = np.mgrid[: size[0], : size[1]] + 0.5
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    along = (columns - x) * cos + (rows - y) * sin
    across = (rows - y) * cos - (columns - x) * sin
    return encode_rle((along / radius_x) ** 2 + (across / radius_y) ** 2 <= 1)


def placed_mask(mask: Masks, left: int, top: int, size: Size) -> Rle:
    """A mask of a part of the frame, put in its place.

    Args:
        mask: bool [H, W], of the part.
        left, top: its first column and row in the frame.
        size: of the frame.

    Raises:
        ValueError: if it does not lie in the frame.
    """
    height, width = mask.shape
    if left < 0 or top < 0 or top + height > size[0] or left + width > size[1]:
        raise ValueError(
            f"its mask of {width}x{height} at {left}, {top} reaches out of the frame of "
            f"{size[1]}x{size[0]}"
        )
    whole = np.zeros(size, bool)
    whole[top : top + height, left : left + width] = mask
    return encode_rle(whole)


def united(masks: Sequence[Rle]) -> Rle:
    """The pixels of any of the masks, all of one size."""
    if len(masks) == 1:
        return masks[0]
    merged = coco_mask.merge(list(masks))
    return {"size": list(masks[0]["size"]), "counts": merged["counts"].decode()}


def _turned(points: NDArray[Any], middle: NDArray[Any], degrees: float) -> NDArray[Any]:
    """Points [N, 2] turned clockwise, as y points down."""
    if not degrees:
        return points
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.asarray((points - middle) @ np.array([[cos, sin], [-sin, cos]]) + middle)
