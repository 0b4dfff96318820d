"""The frames of a live source through all its connections: lost, tried again, and back.

What a connection is made of is left to others; here are the waits, the reports and the times.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace

from visolo_core.errors import VisoloError
from visolo_runtime.sources.clip import CUT_SHORT, Cut, Event, Notice, Skipped, SourceFrame
from visolo_runtime.sources.source_options import SourceOptions

LONGEST_WAIT_S = 30.0
"""Between two attempts."""
_STEADY_S = 10.0
"""A connection that lasted longer was a good one: the next attempt is made at once."""
_JUMP_S = 2.0
"""Times that leap ahead of the clock by more than this are not believed."""
_SMALLEST_STEP_S = 1e-3


class SourceLost(VisoloError):
    """A live source is lost and is not tried any longer."""


class ConnectionLost(Exception):
    """A connection cannot be made, or ended.

    Args:
        reason: part of a sentence, such as ``connection refused``.
        final: whether another attempt would end in the same way.
    """

    def __init__(self, reason: str, final: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.final = reason, final


class BroadcastOver(Exception):
    """The source says that it has come to its end."""


@dataclass(frozen=True)
class Connection:
    """An open connection to a live source."""

    frames: Generator[Event]
    """ends when the connection does; a ``Skipped`` at the very end says why"""
    timeout_s: float
    """after which a read gives up"""
    has_times: bool = True
    """whether the times of the frames are the source's own"""
    in_bursts: bool = False
    """whether frames come in pieces of several seconds, to be shown at their own times"""


class LiveClock:
    """Times of a live source, in seconds from its first frame; they only ever grow.

    The source's own times are kept as long as they go on; across a gap, and where a source has no
    times or they leap, the clock on the wall decides.
    """

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """The next frame is the first."""
        self._time_s: float | None = None
        self._arrival_s = 0.0
        self._source_s: float | None = None

    def interrupt(self) -> None:
        """The source's times begin anew with the next frame."""
        self._source_s = None

    def time_s(self, source_s: float | None, arrival_s: float) -> float:
        """The time of the next frame.

        Args:
            source_s: as the source says it, if it does.
            arrival_s: when it came, in seconds of any clock.
        """
        if self._time_s is None:
            time_s = 0.0
        else:
            waited_s = arrival_s - self._arrival_s
            step_s = waited_s
            if source_s is not None and self._source_s is not None:
                stated_s = source_s - self._source_s
                if 0 < stated_s <= waited_s + _JUMP_S:
                    step_s = stated_s
            time_s = self._time_s + max(step_s, _SMALLEST_STEP_S)
        self._time_s, self._arrival_s, self._source_s = time_s, arrival_s, source_s
        return time_s


class Reconnecting(Iterator[Event]):
    """The frames of a live source, through any number of connections.

    Args:
        name: of the source, without passwords.
        connect: makes a connection or raises ``ConnectionLost``, or ``BroadcastOver``.
        options: how long to try, and what follows a gap.
        clock: seconds.
        wait: lets this many seconds pass; by default :meth:`stop` ends them.

    Raises:
        SourceLost: by iteration, when the source is not tried any longer.
    """

    def __init__(
        self,
        name: str,
        connect: Callable[[], Connection],
        options: SourceOptions,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], object] | None = None,
    ) -> None:
        self._name, self._connect, self._options = name, connect, options
        self._stopped = threading.Event()
        self._clock, self._wait = clock, wait or self._stopped.wait
        self._times = LiveClock()
        self._size: tuple[int, ...] | None = None
        self._seen_s: float | None = None  # when the last frame came
        self._lost_s: float | None = None  # when the source was lost, if it is
        self._reason = ""  # why it was
        self._events = self._all()

    def __next__(self) -> Event:
        return next(self._events)

    def stop(self) -> None:
        """End the iteration soon; from any thread. A wait ends at once, a read by its timeout."""
        self._stopped.set()

    def close(self) -> None:
        """End the iteration; from the thread that iterates."""
        self._stopped.set()
        self._events.close()

    def _all(self) -> Generator[Event]:
        wait_s = 0.0
        while not self._stopped.is_set():
            begun_s = self._clock()
            try:
                yield from self._one_connection()
                lost = ConnectionLost("the connection was closed")
            except BroadcastOver:
                return
            except ConnectionLost as error:
                lost = error
            if self._stopped.is_set():
                return
            now_s = self._clock()
            if self._seen_s is not None and self._seen_s - begun_s > _STEADY_S:
                wait_s = 0.0
            if self._lost_s is None:
                self._lost_s, self._reason = now_s, lost.reason
                if not lost.final and self._options.retry_s > 0:
                    yield self._notice(lost.reason)
            left_s = self._lost_s + self._options.retry_s - now_s
            if lost.final or left_s <= 0:
                raise SourceLost(self._last_words(lost))
            self._wait(min(wait_s, left_s))
            wait_s = min(max(1.0, 2 * wait_s), LONGEST_WAIT_S)

    def _one_connection(self) -> Generator[Event]:
        """Frames until the connection is lost, which raises ``ConnectionLost`` unless it closes."""
        connection = self._connect()
        self._times.interrupt()
        held: Skipped | None = None  # the last of a connection says why it ended
        pace = _Pace(self._clock, self._wait) if connection.in_bursts else None
        with closing(connection.frames) as events:
            while not self._stopped.is_set():
                asked_s = self._clock()
                event = next(events, None)
                now_s = self._clock()
                frozen = now_s - asked_s >= connection.timeout_s
                if frozen:  # what comes after so long was waiting in the decoder
                    now_s = asked_s
                if event is None:
                    break
                if held is not None:
                    yield held
                held = event if isinstance(event, Skipped) and event.time_s is None else None
                if isinstance(event, SourceFrame):
                    if pace is not None and not frozen:
                        now_s = pace.wait(event.time_s)
                    yield from self._frame(event, now_s, connection.has_times)
                elif event is not held:
                    yield event
                if frozen:
                    raise ConnectionLost(f"no frame for {connection.timeout_s:g} s")
        if held is not None:
            raise ConnectionLost(held.reason.removeprefix(CUT_SHORT))

    def _frame(self, frame: SourceFrame, now_s: float, has_times: bool) -> Generator[Event]:
        size = frame.picture.shape[:2]
        cut: Cut | None = None
        if self._size is not None and size != self._size:
            cut = Cut(f"its size changes from {_written(self._size)} to {_written(size)}")
        if self._lost_s is not None:
            gap_s = now_s - (self._lost_s if self._seen_s is None else self._seen_s)
            yield self._back(gap_s)
            if self._seen_s is not None and self._options.after_gap == "new" and cut is None:
                cut = Cut(f"it was lost for {gap_s:.1f} s")
            self._lost_s = None
        if cut is not None:
            self._times.begin()
            yield cut
        self._size, self._seen_s = size, now_s
        yield replace(frame, time_s=self._times.time_s(frame.time_s if has_times else None, now_s))

    def _notice(self, reason: str) -> Notice:
        begun = "is lost" if self._seen_s is not None else "cannot be reached"
        return Notice(
            f"{begun} ({reason}); it is tried again for {self._options.retry_s:g} s", urgent=True
        )

    def _back(self, gap_s: float) -> Notice:
        if self._seen_s is None:
            return Notice(f"is reached after {gap_s:.1f} s")
        return Notice(f"is back after a gap of {gap_s:.1f} s", gap_s)

    def _last_words(self, lost: ConnectionLost) -> str:
        did = "was lost" if self._seen_s is not None else "cannot be reached"
        sentence = f"'{self._name}' {did}: {self._reason}"
        if not self._options.retry_s or (lost.final and lost.reason == self._reason):
            return sentence
        if lost.final:
            return f"{sentence}, and is not tried again: {lost.reason}"
        last = f": {lost.reason}" if lost.reason != self._reason else ""
        return f"{sentence}, and was tried again for {self._options.retry_s:g} s{last}"


class _Pace:
    """Waits until it is time for a frame that came early, as all of a segment do but the first."""

    def __init__(self, clock: Callable[[], float], wait: Callable[[float], object]) -> None:
        self._clock, self._wait = clock, wait
        self._zero_s: float | None = None  # the clock when the source's time was 0

    def wait(self, source_s: float) -> float:
        """Returns what the clock says then."""
        now_s = self._clock()
        if self._zero_s is None or not -_JUMP_S < self._zero_s + source_s - now_s < LONGEST_WAIT_S:
            self._zero_s = now_s - source_s
        early_s = self._zero_s + source_s - now_s
        if early_s > 0:
            self._wait(early_s)
        return self._clock()


def _written(size: tuple[int, ...]) -> str:
    return f"{size[1]}x{size[0]}"
