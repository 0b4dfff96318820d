"""Masks of YouTube-VIS and COCO files: polygons, run lengths, and compressed run lengths, which the
other two become.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from visolo_core.masks import Rle, run_lengths


def to_rle(segmentation: Any, height: int, width: int) -> Rle:
    """A mask of any of the three forms as compressed run lengths.

    Raises:
        ValueError, KeyError, TypeError: if it is in none of these forms, or of another size.
    """
    if isinstance(segmentation, list):
        parts = [_polygon(part, height, width) for part in segmentation]
        merged = coco_mask.merge(coco_mask.frPyObjects(parts, height, width))
        return {"size": [height, width], "counts": merged["counts"].decode()}
    size, counts = segmentation["size"], segmentation["counts"]
    if not isinstance(size, list) or len(size) != 2:
        raise ValueError("the size of its mask is not a list of height and width")
    if size != [height, width]:
        raise ValueError(f"its mask is {size[1]}x{size[0]}, the frame {width}x{height}")
    if isinstance(counts, list):
        _check_runs(np.asarray(counts), height, width)
        packed = coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
        return {"size": [height, width], "counts": packed["counts"].decode()}
    if not isinstance(counts, str):
        raise TypeError("its run lengths are neither a list nor a string")
    _check_runs(run_lengths(counts), height, width)
    return {"size": [height, width], "counts": counts}


def _check_runs(runs: NDArray[Any], height: int, width: int) -> None:
    area = height * width
    integers = np.issubdtype(runs.dtype, np.integer)
    # Each length is compared too: their sum may overflow.
    if not integers or (runs < 0).any() or (runs > area).any() or runs.sum() != area:
        raise ValueError("its run lengths do not cover the frame")


def _polygon(part: Any, height: int, width: int) -> list[float]:
    """x, y, x, y ... in pixels. Slightly outside the frame is usual; far outside is an error."""
    points = np.asarray(part, np.float64)
    if points.ndim != 1 or len(points) < 6 or len(points) % 2:
        raise ValueError("its polygon is not a list of three points or more")
    side = max(height, width)
    if not ((points > -side) & (points < 2 * side)).all():
        raise ValueError("its polygon lies outside of the frame")
    return [float(point) for point in points]
