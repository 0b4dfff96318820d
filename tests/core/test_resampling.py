"""The weights are Pillow's, and few and small enough for sums in float32."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from helpers import Array
from visolo_core.errors import VisoloError
from visolo_core.resampling import MOST_TAPS, WEIGHT_BITS, LineTaps, bilinear_taps, most_taps

SIDE = st.integers(1, 300)


def in_integers(taps: LineTaps, line: Array) -> Array:
    """A line uint8 [source] resized as Pillow does it: 64-bit sums, shifted."""
    sums = (line[taps.index].astype(np.int64) * taps.weight).sum(axis=0)
    levels: Array = np.clip((sums + (1 << WEIGHT_BITS - 1)) >> WEIGHT_BITS, 0, 255).astype(np.uint8)
    return levels


def by_pillow(line: Array, target: int) -> Array:
    # As high as it is, or Pillow would do the other side first and have two sides to round.
    picture = Image.fromarray(line[None]).resize((target, 1), Image.Resampling.BILINEAR)
    return np.asarray(picture).ravel()


@settings(deadline=None, max_examples=300)
@given(source=SIDE, target=SIDE)
def test_pillows_weights(source: int, target: int) -> None:
    if source / target > 31:
        return
    line = np.random.default_rng(source).integers(0, 256, source, np.uint8)
    assert np.array_equal(in_integers(bilinear_taps(source, target), line), by_pillow(line, target))


@pytest.mark.parametrize("source", [3840, 2160, 1920, 1080, 1440])
@pytest.mark.parametrize("target", [624, 352, 336, 192])
def test_usual_sides(source: int, target: int) -> None:
    line = np.random.default_rng(source).integers(0, 256, source, np.uint8)
    taps = bilinear_taps(source, target)
    assert np.array_equal(in_integers(taps, line), by_pillow(line, target))
    assert len(taps.index) <= most_taps(source / target)


@settings(deadline=None, max_examples=200)
@given(source=st.integers(1, 4000), target=st.integers(1, 1000))
def test_sums_are_exact_in_float32(source: int, target: int) -> None:
    """The greatest sums that the parts of the weights allow, whatever the grey levels are."""
    if source / target > 31:
        return
    weight = bilinear_taps(source, target).weight
    high = (weight + 1024) >> 11
    low = weight - (high << 11)
    assert len(weight) <= MOST_TAPS
    assert np.abs(low).max() <= 1024
    for part in (high, low):
        assert (np.abs(part) * 255).sum(axis=0).max() < 2**24
        assert np.array_equal(part, part.astype(np.float16))  # 11 significant bits, as in TF32


def test_a_side_that_stays_takes_one_pixel_each() -> None:
    taps = bilinear_taps(50, 50)
    assert np.array_equal(taps.index, [np.arange(50)])
    assert np.array_equal(taps.weight, [[1 << WEIGHT_BITS] * 50])


def test_a_side_that_shrinks_too_much() -> None:
    with pytest.raises(VisoloError, match="3840 pixels cannot be resized to 100 on a GPU"):
        bilinear_taps(3840, 100)
