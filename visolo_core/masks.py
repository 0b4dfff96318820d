"""Binary masks: resizing like the official code, and COCO's run-length encoding."""

from __future__ import annotations

from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

Masks = NDArray[np.bool_]
_MAX_DIGITS = 7  # of five bits each: enough for a run of more pixels than any image has


class Rle(TypedDict):
    """A mask as stored in YouTube-VIS json files."""

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


def mask_box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int] | None:
    """Left, top, right and bottom of the pixels of a mask bool [H, W], right and bottom exclusive;
    None for an empty mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def run_lengths(counts: str) -> NDArray[np.int64]:
    """The lengths of the runs of an encoding: of zeros, of ones, of zeros, and so on.

    Compressed counts write a length in characters of five bits each, lowest first, and from the
    fourth on as the difference to the length before the last. pycocotools decodes them without a
    look at their sum, and reads memory that is not its own where they fall short of the frame.

    Raises:
        ValueError: if it is not such an encoding.
    """
    chunks = np.frombuffer(counts.encode("ascii", "replace"), np.uint8).astype(np.int64) - 48
    if not chunks.size or chunks.min() < 0 or chunks.max() > 63 or chunks[-1] & 32:
        raise ValueError("its run lengths are not compressed counts")
    last = np.flatnonzero(chunks & 32 == 0)
    first = np.concatenate([[0], last[:-1] + 1])
    digits = last - first + 1
    if digits.max() > _MAX_DIGITS:
        raise ValueError("its run lengths are not compressed counts")
    place = np.arange(chunks.size) - np.repeat(first, digits)
    lengths = np.add.reduceat((chunks & 31) << (5 * place), first)
    lengths -= np.where(chunks[last] & 16, np.int64(1) << (5 * digits), 0)
    lengths[1::2] = np.cumsum(lengths[1::2])
    lengths[2::2] = np.cumsum(lengths[2::2])
    return lengths


def resize_masks(masks: NDArray[Any], size: tuple[int, int]) -> Masks:
    """Masks at another resolution.

    The binary mask is interpolated bilinearly, as an image of zeros and ones, and thresholded at
    one half. Sample points are at pixel centres, and shrinking does not antialias (PyTorch's
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
    rows, columns = (Taps(*sides) for sides in zip(source, size, strict=True))
    for mask, target in zip(masks, resized, strict=True):
        _resize_inside_box(mask, target, rows, columns)
    return resized


class Taps:
    """The two source positions that each target position interpolates, and their weights."""

    def __init__(self, source: int, target: int) -> None:
        scale = np.float32(source / target)
        centre = np.maximum((np.arange(target, dtype=np.float32) + 0.5) * scale - 0.5, 0)
        self.low = np.minimum(centre.astype(np.intp), source - 1)
        self.high = np.minimum(self.low + 1, source - 1)
        self.share = centre - self.low.astype(np.float32)

    def reach(self, first: int, last: int) -> slice:
        """Target positions that depend on any of the source positions first to last."""
        reached = np.flatnonzero((self.high >= first) & (self.low <= last))
        return slice(reached[0], reached[-1] + 1) if reached.size else slice(0, 0)


def _resize_inside_box(mask: NDArray[Any], target: Masks, rows: Taps, columns: Taps) -> None:
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
