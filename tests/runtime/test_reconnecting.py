"""Live sources that are lost and come back, without a server: a clock of the test, no waiting."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visolo_runtime.sources.clip import CUT_SHORT, Clip, Cut, Event, Notice, Skipped, SourceFrame
from visolo_runtime.sources.feed import Feed
from visolo_runtime.sources.reconnecting import (
    LONGEST_WAIT_S,
    BroadcastOver,
    Connection,
    ConnectionLost,
    LiveClock,
    Reconnecting,
    SourceLost,
)
from visolo_runtime.sources.source_options import SourceOptions

FRAME_S = 0.1


@dataclass
class Shot:
    """What one attempt to connect leads to."""

    frames: int = 0
    size: tuple[int, int] = (4, 6)
    refused: str = ""
    final: bool = False
    freezes_s: float = 0.0
    over: bool = False


@dataclass
class Camera:
    """A source that follows a script, the last shot again and again, and the clock beside it."""

    script: Sequence[Shot]
    options: SourceOptions
    has_times: bool = True
    now_s: float = 1000.0
    attempts_s: list[float] = field(default_factory=list)

    def source(self) -> Reconnecting:
        return Reconnecting("cam", self._connect, self.options, lambda: self.now_s, self._wait)

    def _wait(self, seconds: float) -> None:
        self.now_s += seconds

    def _connect(self) -> Connection:
        shot = self.script[min(len(self.attempts_s), len(self.script) - 1)]
        self.attempts_s.append(self.now_s)
        if shot.over:
            raise BroadcastOver
        if shot.refused:
            raise ConnectionLost(shot.refused, shot.final)
        return Connection(self._frames(shot), self.options.timeout_s, self.has_times)

    def _frames(self, shot: Shot) -> Generator[Event]:
        for number in range(shot.frames):
            self.now_s += FRAME_S
            yield SourceFrame(np.zeros((*shot.size, 3), np.uint8), number * FRAME_S)
        if shot.freezes_s:
            self.now_s += shot.freezes_s
            yield Skipped(f"{CUT_SHORT}immediate exit requested")


def run(camera: Camera) -> tuple[list[Event], str]:
    """The events, and the error at the end."""
    events: list[Event] = []
    try:
        for event in camera.source():
            events.append(event)
    except SourceLost as error:
        return events, str(error)
    return events, ""


def notices(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, Notice)]


def times(events: list[Event]) -> list[float]:
    return [round(event.time_s, 3) for event in events if isinstance(event, SourceFrame)]


def test_a_source_that_comes_back_has_a_gap() -> None:
    script = [Shot(3), *[Shot(refused="connection refused")] * 2, Shot(3), Shot(over=True)]
    events, error = run(Camera(script, SourceOptions(retry_s=60)))
    assert error == ""
    # Tried at once, after 1 s and after 2 s; the frame comes 0.1 s after the connection.
    assert notices(events) == [
        "is lost (the connection was closed); it is tried again for 60 s",
        "is back after a gap of 3.1 s",
        "is lost (the connection was closed); it is tried again for 60 s",
    ]
    assert times(events) == [0, 0.1, 0.2, 3.3, 3.4, 3.5]
    back = [event for event in events if isinstance(event, Notice)][1]
    assert back.gap_s == pytest.approx(3.1)
    assert not any(isinstance(event, Cut) for event in events)


def test_attempts_are_made_at_once_and_then_further_and_further_apart() -> None:
    camera = Camera([Shot(refused="connection refused")], SourceOptions(retry_s=200))
    events, error = run(camera)
    waits = np.diff(camera.attempts_s)
    assert list(waits) == [0, 1, 2, 4, 8, 16, LONGEST_WAIT_S, LONGEST_WAIT_S, *waits[8:]]
    assert max(waits) == LONGEST_WAIT_S
    assert camera.attempts_s[-1] - camera.attempts_s[0] == 200
    assert notices(events) == [
        "cannot be reached (connection refused); it is tried again for 200 s"
    ]
    assert error == "'cam' cannot be reached: connection refused, and was tried again for 200 s"


def test_retry_0_tries_once() -> None:
    camera = Camera([Shot(2)], SourceOptions(retry_s=0))
    events, error = run(camera)
    assert len(events) == 2
    assert error == "'cam' was lost: the connection was closed"
    assert len(camera.attempts_s) == 1


def test_a_wrong_password_is_not_tried_again() -> None:
    camera = Camera([Shot(refused="the server refuses", final=True)], SourceOptions())
    events, error = run(camera)
    assert (events, error) == ([], "'cam' cannot be reached: the server refuses")
    assert len(camera.attempts_s) == 1


def test_a_frozen_source_is_lost() -> None:
    script = [Shot(2, freezes_s=5), Shot(1), Shot(over=True)]
    events, _ = run(Camera(script, SourceOptions(timeout_s=5)))
    assert notices(events)[0] == "is lost (no frame for 5 s); it is tried again for 60 s"
    assert notices(events)[1] == "is back after a gap of 5.1 s"
    assert times(events) == [0, 0.1, 5.2]
    assert not any(isinstance(event, Skipped) for event in events)


def test_each_outage_has_its_own_time_and_a_flapping_source_is_not_hammered() -> None:
    camera = Camera([*[Shot(1)] * 9, Shot(refused="gone")], SourceOptions(retry_s=40))
    _, error = run(camera)
    assert error == (
        "'cam' was lost: the connection was closed, and was tried again for 40 s: gone"
    )
    waits = np.diff(camera.attempts_s)[:8] - FRAME_S
    assert waits == pytest.approx([0, 1, 2, 4, 8, 16, 30, 30])


def test_a_source_that_was_steady_is_tried_at_once() -> None:
    steady = Shot(200)
    camera = Camera([Shot(1), Shot(1), steady, steady, Shot(over=True)], SourceOptions())
    run(camera)
    assert camera.attempts_s[3] - camera.attempts_s[2] == pytest.approx(200 * FRAME_S)


def test_tracks_begin_anew_if_asked() -> None:
    script = [Shot(2), Shot(2), Shot(over=True)]
    events, _ = run(Camera(script, SourceOptions(after_gap="new")))
    kinds = [type(event).__name__ for event in events]
    assert kinds[2:6] == ["Notice", "Notice", "Cut", "SourceFrame"]
    assert times(events) == [0, 0.1, 0, 0.1]  # a clip's times begin at 0


def test_another_size_is_another_clip() -> None:
    script = [Shot(2), Shot(2, size=(8, 6)), Shot(over=True)]
    events, _ = run(Camera(script, SourceOptions()))
    (cut,) = [event for event in events if isinstance(event, Cut)]
    assert cut.reason == "its size changes from 6x4 to 6x8"


def test_a_source_that_says_that_it_is_over_ends() -> None:
    events, error = run(Camera([Shot(2), Shot(over=True)], SourceOptions()))
    assert (len(times(events)), error) == (2, "")


def test_frames_without_times_have_those_of_their_arrival() -> None:
    camera = Camera([Shot(3), Shot(over=True)], SourceOptions(), has_times=False)
    assert times(run(camera)[0]) == [0, 0.1, 0.2]


@given(
    st.lists(
        st.tuples(
            st.none() | st.floats(-1e6, 1e6, allow_nan=False),
            st.floats(0, 100, allow_nan=False),
        ),
        max_size=30,
    )
)
def test_times_only_ever_grow_and_never_run_far_ahead(
    steps: list[tuple[float | None, float]],
) -> None:
    clock, now_s, before = LiveClock(), 0.0, -1.0
    for number, (source_s, wait_s) in enumerate(steps):
        now_s += wait_s
        time_s = clock.time_s(source_s, now_s)
        assert time_s > before
        assert time_s <= now_s + 2.001 * number
        before = time_s


def test_a_closed_feed_ends_a_wait_for_the_next_attempt_at_once() -> None:
    def refuse() -> Connection:
        raise ConnectionLost("connection refused")

    reported: list[str] = []
    clip = Clip(1, "cam", lambda: Reconnecting("cam", refuse, SourceOptions()), live=True)
    feed = Feed(clip, "latest", report=lambda notice: reported.append(notice.text))
    limit = time.monotonic() + 10
    while not reported and time.monotonic() < limit:
        time.sleep(0.01)
    assert reported == ["cannot be reached (connection refused); it is tried again for 60 s"]
    time.sleep(0.1)  # it waits for its second attempt
    threads = [each for each in threading.enumerate() if each.name == "visolo-read"]
    feed.close()
    for thread in threads:
        thread.join(0.5)
        assert not thread.is_alive()
