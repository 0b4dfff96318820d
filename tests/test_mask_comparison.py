"""The comparison of masks forgives float noise and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from helpers import Array
from mask_comparison import MaskBounds

NOISE = 1e-3


def disc(radius: float, x: float = 20.2, y: float = 15.3) -> Array:
    """Logits [1, 32, 48] that fall by one a pixel from the centre out."""
    down, right = np.mgrid[:32, :48]
    return np.asarray(radius - np.hypot(right - x, down - y), np.float32)[None]


def flipped(logits: Array, at: int) -> Array:
    """The mask with one pixel changed: the at-th when ordered by distance from the threshold."""
    mask: Array = logits > 0
    place = np.unravel_index(np.argsort(np.abs(logits), axis=None)[at], logits.shape)
    mask[place] = ~mask[place]
    return mask


@pytest.mark.parametrize("radius", [2.1, 9.3])
def test_a_pixel_on_the_threshold_may_change_sides_however_small_the_mask(radius: float) -> None:
    logits = disc(radius)
    logits.ravel()[np.abs(logits).argmin()] = NOISE / 2
    bounds = MaskBounds.of_logits(logits, NOISE)
    bounds.check(logits > 0)
    bounds.check(flipped(logits, 0))
    with pytest.raises(AssertionError):
        bounds.check(flipped(logits, 1))  # on the edge too, but further from the threshold


def test_a_pixel_inside_or_far_away_may_not() -> None:
    logits = disc(9.3)
    bounds = MaskBounds.of_logits(logits, NOISE)
    with pytest.raises(AssertionError, match=r"certainly inside: \[1\]"):
        bounds.check((logits > 0) & (logits < logits.max()))
    with pytest.raises(AssertionError, match=r"certainly outside: \[1\]"):
        bounds.check((logits > 0) | (logits == logits.min()))


@pytest.mark.parametrize("pixels", [1, 2])
def test_a_shifted_mask_fails(pixels: int) -> None:
    logits = disc(9.3)
    with pytest.raises(AssertionError):
        MaskBounds.of_logits(logits, NOISE).check(np.roll(logits > 0, pixels, axis=2))


def test_a_mask_of_another_object_fails() -> None:
    with pytest.raises(AssertionError):
        MaskBounds.of_logits(disc(9.3), NOISE).check(disc(9.3, x=33) > 0)


def test_bounds_hold_at_another_resolution() -> None:
    logits = disc(9.3)
    logits.ravel()[np.argsort(np.abs(logits), axis=None)[:9]] *= NOISE / 2
    bounds = MaskBounds.of_logits(logits, NOISE)
    whole = bounds.resized((45, 70))
    for at in range(9):
        changed = MaskBounds(flipped(logits, at), flipped(logits, at)).resized((45, 70))
        whole.check(changed.certain)
    shifted = MaskBounds.of_logits(np.roll(logits, 1, axis=1)).resized((45, 70))
    with pytest.raises(AssertionError):
        whole.check(shifted.certain)
