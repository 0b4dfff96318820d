"""Frames are resized as the paper's code does it, whatever Pillow is installed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import Array
from visolo_core.errors import VisoloError
from visolo_runtime.video import resizing
from visolo_runtime.video.resizing import resize_frame, resized

_BITS = 22  # of Pillow's weights
SIDE = st.integers(1, 60)


def line_weights(source: int, target: int) -> Array:
    """int64 [target, source]: Pillow's bilinear weights, a triangle as wide as the scale."""
    scale = source / target
    reach = max(scale, 1.0)
    weights = np.zeros((target, source), np.int64)
    for place in range(target):
        centre = (place + 0.5) * scale
        first, last = max(0, int(centre - reach + 0.5)), min(source, int(centre + reach + 0.5))
        taps = np.maximum(0, 1 - np.abs(np.arange(first, last) - centre + 0.5) / reach)
        weights[place, first:last] = (taps / taps.sum() * (1 << _BITS) + 0.5).astype(np.int64)
    return weights


def along(weights: Array, lines: Array) -> Array:
    """Every line [source, ...] resized, rounded to grey levels."""
    sums = np.tensordot(weights, lines.astype(np.int64), axes=1) + (1 << _BITS - 1)
    levels: Array = np.clip(sums >> _BITS, 0, 255).astype(np.uint8)
    return levels


def rows_then_columns(frame: Array, size: tuple[int, int]) -> Array:
    """In integers, by the book."""
    height, width = size
    across = along(line_weights(frame.shape[1], width), frame.transpose(1, 0, 2))
    return along(line_weights(frame.shape[0], height), across.transpose(1, 0, 2))


def noise(height: int, width: int) -> Array:
    return np.random.default_rng(height * 100 + width).integers(
        0, 256, (height, width, 3), np.uint8
    )


@settings(deadline=None, max_examples=60)
@given(height=SIDE, width=SIDE, rows=SIDE, columns=SIDE)
def test_rows_first_to_the_last_bit(height: int, width: int, rows: int, columns: int) -> None:
    frame = noise(height, width)
    expected = rows_then_columns(frame, (rows, columns))
    assert np.array_equal(resize_frame(frame, (rows, columns)), expected)


def test_a_frame_of_a_usual_video() -> None:
    frame = noise(360, 640)
    assert np.array_equal(resize_frame(frame, (352, 624)), rows_then_columns(frame, (352, 624)))


@pytest.mark.parametrize("size", [(48, 64), (128, 72), (36, 64)])
def test_upright_and_wide_videos(size: tuple[int, int]) -> None:
    """Pillow 13 would begin with the columns of the first two."""
    frame = noise(*size)
    assert np.array_equal(resize_frame(frame, (35, 62)), rows_then_columns(frame, (35, 62)))


@settings(deadline=None, max_examples=40)
@given(height=SIDE, width=SIDE, rows=SIDE, columns=SIDE, threads=st.integers(2, 5))
def test_threads_change_nothing(
    height: int, width: int, rows: int, columns: int, threads: int
) -> None:
    frame = noise(height, width)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resizing, "_SHARED_FROM", 0)
        shared = resize_frame(frame, (rows, columns), threads)
    assert np.array_equal(shared, resize_frame(frame, (rows, columns), threads=1))


def test_large_frames_are_shared() -> None:
    frame = noise(720, 1280)
    assert np.array_equal(resize_frame(frame, (32, 56), 3), resize_frame(frame, (32, 56), 1))


def test_a_frame_of_the_right_size_is_left_alone() -> None:
    frame = noise(32, 48)
    unchanged = resized(frame, (32, 48))
    assert unchanged.image is frame
    assert unchanged.size == (32, 48)


@pytest.mark.parametrize("frame", [noise(4, 4)[..., 0], noise(4, 4)[:0], noise(4, 4) / 255])
def test_what_is_not_a_frame(frame: Array) -> None:
    with pytest.raises(VisoloError, match="a frame must be a uint8 array"):
        resized(frame, (32, 48))
