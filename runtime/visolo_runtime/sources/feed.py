"""A thread that decodes and resizes the frames of a clip ahead of the engines.

The queue between the thread and the engines is bounded. When it is full, the thread waits; with the
policy ``latest`` it drops the oldest frame instead, so that the engines always get the newest frame
of a live source.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Literal

from visolo_runtime.sources.clip import Clip, Cut, Event, Notice, Skipped, SourceFrame
from visolo_runtime.video.frames import ResizedFrame
from visolo_runtime.video.resizing import resized

Policy = Literal["all", "latest"]
AHEAD = 4
"""Most frames in the queue; the policy ``latest`` keeps one."""


@dataclass(frozen=True)
class Ready:
    """A frame that has been read."""

    frame: SourceFrame | Skipped
    resized: ResizedFrame | None
    """the frame at the network's input size, if the feed resizes"""
    dropped: int
    """frames dropped just before this one"""
    since: float
    """when it was read, in seconds of ``time.perf_counter``"""
    before: tuple[Notice | Cut, ...] = ()
    """what happened just before this frame, or before those that were dropped"""


class Feed:
    """Reads a clip ahead. Close it, or use it in a ``with`` block.

    Args:
        clip: the clip to read.
        policy: ``all`` frames, or the ``latest`` when they arrive faster than they are used.
        bell: notified when a frame is ready or the clip is over; several feeds may share it.
        resize: height and width of the network's input, to resize frames in the thread. Ignored
            with the policy ``latest``, which would waste the work on dropped frames.
        report: called in the thread with each notice that is urgent, or that no frame follows.
    """

    def __init__(
        self,
        clip: Clip,
        policy: Policy = "all",
        bell: threading.Condition | None = None,
        resize: tuple[int, int] | None = None,
        report: Callable[[Notice], None] = lambda _: None,
    ) -> None:
        self._clip, self._policy, self._report = clip, policy, report
        self._bell = bell or threading.Condition()
        self._resize = None if policy == "latest" else resize
        self._limit = 1 if policy == "latest" else AHEAD
        self._queue: deque[Ready] = deque()
        self._dropped = 0
        self._before: tuple[Notice | Cut, ...] = ()
        self._over = self._closed = False
        self._stop: Callable[[], None] = lambda: None  # of frames that can be told to end
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._read, name="visolo-read", daemon=True)
        self._thread.start()

    @property
    def over(self) -> bool:
        """Whether no more frames will come."""
        with self._bell:
            return self._over and not self._queue and self._error is None

    @property
    def waiting(self) -> bool:
        """Whether :meth:`take` would have to wait."""
        with self._bell:
            return not (self._queue or self._over)

    def take(self, timeout: float | None = None) -> Ready | None:
        """The next frame; None if the clip is over, or no frame arrives within ``timeout`` seconds.

        Raises:
            VisoloError: if the clip could not be opened.
        """
        with self._bell:
            self._bell.wait_for(lambda: self._queue or self._over, timeout)
            if self._queue:
                ready = self._queue.popleft()
                self._bell.notify_all()
                return ready
            if self._error is not None:
                error, self._error = self._error, None
                raise error
            return None

    def close(self) -> None:
        """Stop reading. A read in progress ends by itself, at the latest by its timeout."""
        with self._bell:
            self._closed = True
            self._queue.clear()
            self._stop()
            self._bell.notify_all()

    def __enter__(self) -> Feed:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self) -> None:
        error: BaseException | None = None
        try:
            frames = self._clip.frames()
            with self._bell:
                self._stop = getattr(frames, "stop", self._stop)
                if self._closed:
                    self._stop()
            with closing(_generator(frames)) as events:
                for event in events:
                    if not self._put(event):
                        break
        except BaseException as caught:  # raised again by ``take``
            error = caught
        for event in self._before:
            if isinstance(event, Notice) and not self._closed:
                self._report(event)
        with self._bell:
            self._error, self._over = error, True
            self._bell.notify_all()

    def _put(self, frame: Event) -> bool:
        if isinstance(frame, Notice) and frame.urgent:
            if not self._closed:
                self._report(frame)
            return not self._closed
        if isinstance(frame, (Notice, Cut)):
            self._before += (frame,)
            return not self._closed
        smaller = None
        if self._resize is not None and isinstance(frame, SourceFrame):
            # One thread: the engines need the other cores.
            smaller = resized(frame.picture, self._resize, threads=1)
        with self._bell:
            if self._policy == "latest":
                while len(self._queue) >= self._limit:
                    old = self._queue.popleft()
                    self._dropped += old.dropped + 1
                    self._before = old.before + self._before
            else:
                self._bell.wait_for(lambda: len(self._queue) < self._limit or self._closed)
            if self._closed:
                return False
            now = time.perf_counter()
            self._queue.append(Ready(frame, smaller, self._dropped, now, self._before))
            self._dropped, self._before = 0, ()
            self._bell.notify_all()
            return True


def _generator(frames: Iterator[Event]) -> Generator[Event]:
    yield from frames
