"""Pillow's bilinear resizing as numbers: which pixels a pixel is made of, and with which weights.

Pillow widens the triangle by the scale when it shrinks, rounds the weights to 22 bits, adds in
integers, and rounds to grey levels between its two passes. A graph that is given these integers and
adds them up exactly gives the same image, to the last bit.

float32 holds integers up to 2**24, and the sum of 22-bit weights times grey levels is larger. So a
weight is split into ``high * 2**11 + low`` with ``low`` from -1024 to 1024:

- the sum of ``low * level`` is at most ``64 * 1024 * 255 < 2**24`` for 64 taps,
- the sum of ``high * level`` is at most ``(2**11 + 64) * 255 < 2**20``.

Both are exact in whatever order they are added, with or without fused multiply-add. Dividing by a
power of two and rounding down are exact too, which is how Pillow's shift by 22 bits is made.
Levels and both parts of a weight have at most 11 significant bits, as many as TF32 keeps: it makes
no difference either.

Resizing by taps rather than by dense matrices: a 1080p frame becomes 352x624 with 7 by 7 taps, 19
million multiplications for each part of the weights. With matrices [1920, 624] and [1080, 352] they
would be 4.6 thousand million, 18 GFLOP for both parts: at the peak of float32 .3 ms on an H100 (67
TFLOPS), 1.4 ms on an RTX 3060 (13), 3.5 ms on an AGX Orin (5.3). Taps are limited by memory, 49 MB
that are read and written, most of them the two sums between the passes: .015 ms, .14 ms and .24 ms
(3350, 360 and 205 GB/s). These are bounds by arithmetic, not measurements.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import ceil

import numpy as np
from numpy.typing import NDArray

from visolo_core.errors import VisoloError

WEIGHT_BITS = 22
"""Fractional bits of Pillow's weights for 8-bit images."""
LOW_BITS = 11
"""How many of them are added up separately."""
MOST_TAPS = 64
"""Pixels that make a pixel, at most, for sums that are exact in float32."""
MOST_SHRINKING = 31
"""How many times smaller a side may become with so many taps."""


@dataclass(frozen=True)
class LineTaps:
    """Which pixels of a line make each pixel of the resized line, and with which weights.

    Places without a use have the weight 0 and the index of a pixel that exists.
    """

    index: NDArray[np.int32]
    """[K, target]"""
    weight: NDArray[np.int32]
    """[K, target], the sum of each column about ``2**22``"""


@lru_cache(maxsize=64)
def bilinear_taps(source: int, target: int) -> LineTaps:
    """The taps of Pillow's ``Image.Resampling.BILINEAR`` along one side. Do not change the arrays.

    Args:
        source: pixels of the side before.
        target: pixels of the side after.

    Raises:
        VisoloError: if the side shrinks so much that sums would not be exact.
    """
    scale = source / target
    if scale > MOST_SHRINKING:
        raise VisoloError(
            f"a side of {source} pixels cannot be resized to {target} on a GPU: it may shrink up "
            f"to {MOST_SHRINKING}-fold"
        )
    reach = max(scale, 1.0)  # half the width of the triangle
    centre = (np.arange(target) + 0.5) * scale
    first = np.maximum((centre - reach + 0.5).astype(np.int64), 0)
    count = np.minimum((centre + reach + 0.5).astype(np.int64), source) - first
    taps = int(count.max())
    place = np.arange(taps)[:, None]
    # Multiplied by the inverse and added up one by one, as Pillow does it.
    distance = np.abs((place + first - centre + 0.5) * (1.0 / reach))
    share = np.where((place < count) & (distance < 1.0), 1.0 - distance, 0.0)
    total = np.zeros(target)
    for each in share:
        total += each
    weight = (share / total * (1 << WEIGHT_BITS) + 0.5).astype(np.int32)
    used = int(np.flatnonzero(weight.any(axis=1))[-1]) + 1
    index = np.minimum(first + place[:used], source - 1).astype(np.int32)
    return LineTaps(index, weight[:used])


def most_taps(scale: float) -> int:
    """Taps K of a side that shrinks by ``scale``, or by less, at most.

    >>> most_taps(1920 / 624) >= bilinear_taps(1920, 624).index.shape[0]
    True
    """
    return min(MOST_TAPS, 2 * ceil(max(scale, 1.0)) + 1)
