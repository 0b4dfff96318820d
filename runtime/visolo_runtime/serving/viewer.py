"""A browser that watches streams: it gets the newest frame of each, as fast as it answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from visolo_runtime.serving.hub import Hub
from visolo_runtime.serving.hub_stream import HubStream
from visolo_runtime.serving.tracked import TrackedFrame
from visolo_runtime.serving.wire import with_age

WINDOW = 2
"""Most messages that wait for a viewer's answer. One would leave the line idle for a round trip;
more would pile up in front of a slow viewer and show it the past."""
PATIENCE_S = 60.0
"""A viewer that answers nothing for so long is gone."""


class Viewer:
    """The frames that a viewer has not seen yet: at most one a stream.

    Args:
        hub: with the streams.
        streams: to watch.
    """

    def __init__(self, hub: Hub, streams: list[HubStream]) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[int, TrackedFrame] = {}
        self._changed = asyncio.Event()
        self._in_flight = 0
        self._answered = time.monotonic()
        self._watched = {stream.number for stream in streams}
        self._stop = [hub.listen(stream, self._listen) for stream in streams]
        for stream in streams:
            if stream.latest is not None:  # a paused stream has something to show too
                self._offer(stream.number, stream.latest)

    def close(self) -> None:
        """Watch no longer."""
        for stop in self._stop:
            stop()

    def answer(self) -> None:
        """The viewer has shown a message."""
        self._in_flight = max(0, self._in_flight - 1)
        self._answered = time.monotonic()
        self._changed.set()

    async def send(self, send: Callable[[bytes], Any]) -> None:
        """Send frames until all streams are over and their last frames sent, or the viewer is gone.

        Args:
            send: sends a message.
        """
        while self._watched or self._waiting:
            if self._waiting and self._in_flight < WINDOW:
                number = next(iter(self._waiting))
                frame = self._waiting.pop(number)
                message = await asyncio.to_thread(frame.message)
                if self._in_flight == 0:
                    self._answered = time.monotonic()
                self._in_flight += 1
                await send(with_age(message, frame.age_ms))
                continue
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), PATIENCE_S / 4)
            except asyncio.TimeoutError:  # noqa: UP041 - Python 3.10 has two of them
                if self._in_flight and time.monotonic() - self._answered > PATIENCE_S:
                    return

    def _listen(self, stream: HubStream, frame: TrackedFrame | None) -> None:
        """Called by the engines' thread."""
        try:
            self._loop.call_soon_threadsafe(self._offer, stream.number, frame)
        except RuntimeError:  # the server has stopped
            return

    def _offer(self, number: int, frame: TrackedFrame | None) -> None:
        if frame is None:
            self._watched.discard(number)
        else:
            self._waiting[number] = frame
        self._changed.set()
