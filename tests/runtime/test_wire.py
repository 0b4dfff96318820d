"""The message of a frame keeps every pixel, and nothing else than a message is taken for one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from visolo_core.errors import VisoloError
from visolo_runtime.serving.wire import (
    SentFrame,
    SentInstance,
    decode_frame,
    decode_runs,
    encode_frame,
    encode_runs,
    with_age,
)

shapes = arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40)


@given(arrays.arrays(bool, shapes))
def test_runs_keep_a_mask(mask: NDArray[np.bool_]) -> None:
    assert np.array_equal(decode_runs(encode_runs(mask), mask.shape), mask)


@pytest.mark.parametrize("length", [1, 127, 128, 16383, 16384, 2_097_151, 2_097_152])
def test_runs_of_any_length(length: int) -> None:
    for value in (False, True):
        mask = np.full((1, length), value)
        assert np.array_equal(decode_runs(encode_runs(mask), mask.shape), mask)


def message_of(instances: int, picture: bytes = b"jpeg") -> bytes:
    random = np.random.default_rng(3)
    sent = tuple(
        SentInstance(at + 1, at, 0.5, (at, 2, at + 5, 9), random.random((7, 5)) < 0.5)
        for at in range(instances)
    )
    return encode_frame(SentFrame(7, 12, 0.4, 1.5, (20, 30), 3, sent, picture))


def test_a_message_says_what_was_sent() -> None:
    frame = decode_frame(message_of(3))
    assert (frame.stream, frame.frame, frame.time_s, frame.age_ms) == (7, 12, 0.4, 1.5)
    assert (frame.size, frame.dropped, frame.picture) == ((20, 30), 3, b"jpeg")
    assert [each.track_id for each in frame.instances] == [1, 2, 3]
    assert frame.instances[1].box == (1, 2, 6, 9)
    assert encode_frame(frame) == message_of(3)
    assert decode_frame(with_age(message_of(3), 8.0)).age_ms == 8.0


@given(st.integers(0, 400))
def test_a_message_that_is_cut_short_is_refused(length: int) -> None:
    whole = message_of(3)
    if length < len(whole):
        with pytest.raises(VisoloError):
            decode_frame(whole[:length])


@settings(max_examples=300)
@given(st.data())
def test_whatever_is_changed_in_a_message_is_a_message_or_refused(data: Any) -> None:
    message = bytearray(message_of(2))
    for _ in range(data.draw(st.integers(1, 4))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    try:
        frame = decode_frame(bytes(message))
    except VisoloError:
        return
    for each in frame.instances:
        left, top, right, bottom = each.box
        assert each.mask.shape == (bottom - top, right - left)
