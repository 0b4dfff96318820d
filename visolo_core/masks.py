"""Binary masks: resizing as the official code does it, and COCO's run-length encoding."""

from __future__ import annotations

from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

Masks = NDArray[np.bool_]


class Rle(TypedDict):
    """A mask as the YouTube-VIS json formats carry it."""

    size: list[int]
    """[height, width] in pixels"""
    counts: str
    """compressed run lengths, column by column"""


def encode_rle(mask: NDArray[Any]) -> Rle:
    """Run-length encoding of a mask, bool or uint8 [H, W]."""
    from pycocotools import mask as coco_mask

    encoded = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode()}


def decode_rle(rle: Rle) -> Masks:
    """bool [H, W] of a run-length encoding."""
    from pycocotools import mask as coco_mask

    return np.asarray(coco_mask.decode(rle), bool)


def resize_masks(masks: NDArray[Any], size: tuple[int, int]) -> Masks:
    """Masks at another resolution.

    The binary mask is interpolated bilinearly, as a picture of zeros and ones, and cut at one
    half; sample points lie at pixel centres and shrinking does not blur (PyTorch's
    ``align_corners=False``).

    Args:
        masks: bool or uint8 [N, H, W] of zeros and ones.
        size: (height, width) of the result.

    Returns:
        bool [N, height, width].
    """
    source = masks.shape[1:]
    if source == size:
        return masks.astype(bool)
    resized = np.zeros((len(masks), *size), bool)
    rows, columns = (_Taps(*sides) for sides in zip(source, size, strict=True))
    for mask, target in zip(masks, resized, strict=True):
        _resize_inside_box(mask, target, rows, columns)
    return resized


class _Taps:
    """The two source positions that each target position interpolates between, and how much."""

    def __init__(self, source: int, target: int) -> None:
        scale = np.float32(source / target)
        centre = np.maximum((np.arange(target, dtype=np.float32) + 0.5) * scale - 0.5, 0)
        self.low = np.minimum(centre.astype(np.intp), source - 1)
        self.high = np.minimum(self.low + 1, source - 1)
        self.share = centre - self.low.astype(np.float32)

    def reach(self, first: int, last: int) -> slice:
        """Target positions that see any of the source positions first to last."""
        seen = np.flatnonzero((self.high >= first) & (self.low <= last))
        return slice(seen[0], seen[-1] + 1) if seen.size else slice(0, 0)


def _resize_inside_box(mask: NDArray[Any], target: Masks, rows: _Taps, columns: _Taps) -> None:
    occupied_rows = np.flatnonzero(mask.any(axis=1))
    if not occupied_rows.size:
        return
    occupied_columns = np.flatnonzero(mask.any(axis=0))
    y = rows.reach(occupied_rows[0], occupied_rows[-1])
    x = columns.reach(occupied_columns[0], occupied_columns[-1])

    top = rows.low[y.start] if y.stop > y.start else 0
    bottom = rows.high[y][-1] + 1 if y.stop > y.start else 0
    strip = mask[top:bottom].astype(np.float32)
    share = columns.share[x]
    strip = strip[:, columns.low[x]] * (1 - share) + strip[:, columns.high[x]] * share
    share = rows.share[y, None]
    value = strip[rows.low[y] - top] * (1 - share)
    value += strip[rows.high[y] - top] * share
    target[y, x] = value >= 0.5
