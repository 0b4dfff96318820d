"""Playing recordings at their own speed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

from visolo_runtime.sources.clip import Cut, Notice, Skipped, SourceFrame

Item = SourceFrame | Skipped | Notice | Cut


class Pace:
    """Lets the frames of a recording pass when they are due; can be paused and closed."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._paused = self._closed = False

    def pause(self, paused: bool) -> None:
        """Stop, or go on where it stopped."""
        with self._changed:
            self._paused = paused
            self._changed.notify_all()

    def close(self) -> None:
        """Let nothing pass any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def frames(self, frames: Iterator[Item]) -> Iterator[Item]:
        """The frames, each when it is due: its time after the first one, without the pauses."""
        begin: float | None = None
        for frame in frames:
            due = getattr(frame, "time_s", None)
            now = time.monotonic()
            if due is not None and begin is None:
                begin = now - due
            with self._changed:
                begin = self._wait(begin, due)
                if self._closed:
                    return
            yield frame

    def _wait(self, begin: float | None, due: float | None) -> float | None:
        """Until a frame is due; returns the beginning, moved by the pauses."""
        while not self._closed:
            now = time.monotonic()
            if self._paused:
                self._changed.wait()
                if begin is not None:
                    begin += time.monotonic() - now
            elif begin is None or due is None or now >= begin + due:
                break
            else:
                self._changed.wait(begin + due - now)
        return begin
