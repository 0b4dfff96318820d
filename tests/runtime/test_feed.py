"""Frames read ahead: in order, bounded, dropped by policy, and resized on the way."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from visolo_core.errors import VisoloError
from visolo_runtime.sources.clip import Clip, Skipped, SourceFrame, at_constant_rate
from visolo_runtime.sources.feed import AHEAD, Feed
from visolo_runtime.video.resizing import resize_frame
from visolo_runtime.video.sample_clip import sample_frames

Frame = NDArray[np.uint8]


def clip_of(frames: Callable[[], Iterator[Frame | Skipped]], live: bool = False) -> Clip:
    return Clip(1, "clip", lambda: at_constant_rate(frames()), live=live)


def number_of(frame: SourceFrame) -> int:
    return int(frame.picture[0, 0, 0])


def numbered(count: int, pause: float = 0.0) -> Iterator[Frame | Skipped]:
    for number in range(count):
        time.sleep(pause)
        yield np.full((2, 2, 3), number, np.uint8)


def test_a_feed_keeps_every_frame_in_order_and_reads_only_so_far_ahead() -> None:
    read = []

    def frames() -> Iterator[Frame | Skipped]:
        for frame in numbered(20):
            read.append(frame)
            yield frame

    with Feed(clip_of(frames)) as feed:
        time.sleep(0.2)
        assert len(read) <= AHEAD + 1
        frames_read = [ready.frame for ready in iter(feed.take, None)]
    assert [number_of(frame) for frame in frames_read if not isinstance(frame, Skipped)] == [
        *range(20)
    ]
    assert feed.over


def test_a_feed_resizes_ahead_unless_frames_may_be_dropped() -> None:
    frames = list(sample_frames(3, 40, 60))
    with Feed(clip_of(lambda: iter(frames)), resize=(32, 48)) as feed:
        for frame in frames:
            ready = feed.take()
            assert ready is not None
            assert isinstance(ready.frame, SourceFrame)
            assert ready.frame.picture is frame
            assert ready.resized is not None
            assert ready.resized.size == (40, 60)
            assert np.array_equal(ready.resized.image, resize_frame(frame, (32, 48)))
    with Feed(clip_of(lambda: iter(frames)), "latest", resize=(32, 48)) as feed:
        ready = feed.take()
        assert ready is not None
        assert ready.resized is None


def test_the_latest_frame_makes_the_others_go() -> None:
    with Feed(clip_of(lambda: numbered(10)), "latest") as feed:
        time.sleep(0.2)
        ready = feed.take()
        assert ready is not None
        assert not isinstance(ready.frame, Skipped)
        assert (number_of(ready.frame), ready.dropped) == (9, 9)
        assert feed.take() is None


@settings(max_examples=20, deadline=None)
@given(st.lists(st.booleans(), max_size=30))
def test_no_frame_is_counted_twice_or_lost(pauses: list[bool]) -> None:
    def frames() -> Iterator[Frame | Skipped]:
        for number, pause in enumerate(pauses):
            if pause:
                time.sleep(0.001)
            yield np.full((1, 1, 3), number, np.uint8)

    with Feed(clip_of(frames), "latest") as feed:
        count = sum(1 + ready.dropped for ready in iter(feed.take, None))
    assert count == len(pauses)


def test_what_goes_wrong_in_the_thread_is_raised_where_frames_are_taken() -> None:
    def frames() -> Iterator[Frame | Skipped]:
        yield from numbered(1)
        raise VisoloError("cannot open it")

    with Feed(clip_of(frames)) as feed:
        assert feed.take() is not None
        with pytest.raises(VisoloError, match="cannot open it"):
            feed.take()
        assert feed.over


def test_a_closed_feed_ends_its_thread_and_its_source() -> None:
    ended = threading.Event()

    def frames() -> Iterator[Frame | Skipped]:
        try:
            yield from numbered(1000)
        finally:
            ended.set()

    with Feed(clip_of(frames)) as feed:
        feed.take()
    assert ended.wait(2)


def test_a_wait_for_a_frame_has_an_end() -> None:
    with Feed(clip_of(lambda: numbered(1, pause=0.5), live=True)) as feed:
        assert feed.waiting
        assert feed.take(timeout=0.01) is None
        assert not feed.over
