"""Frames that a visitor's browser sends: its webcam, or a video that was dropped on the page."""

from __future__ import annotations

import queue
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from visolo_core.errors import VisoloError
from visolo_runtime.sources.clip import Clip, SourceFrame
from visolo_runtime.sources.pictures import read_jpeg

HEADER = struct.Struct("<d")
"""Before the JPEG: the frame's time in seconds."""
IN_FLIGHT = 4
"""Most frames that a visitor may send before the first of them is answered."""
LARGEST = 1920 * 1080
"""Most pixels of a frame."""
_CLOSED = object()


class TooFastError(VisoloError):
    """A visitor sent more frames than may be in flight."""


@dataclass
class Visitor:
    """Turns messages into a clip."""

    name: str
    _frames: queue.Queue[object] = field(default_factory=lambda: queue.Queue(IN_FLIGHT + 1))

    @property
    def clip(self) -> Clip:
        """All frames that are put here, until it is closed."""
        return Clip(1, self.name, self._read, live=True, once=True)

    def put(self, message: bytes) -> None:
        """Take the next frame.

        Raises:
            VisoloError: if it is no JPEG, or too large.
            TooFastError: if too many frames are in flight.
        """
        frame = read_frame(message)
        if self._frames.qsize() >= IN_FLIGHT:
            raise TooFastError(f"more than {IN_FLIGHT} frames are in flight: wait for the answers")
        self._frames.put_nowait(frame)

    def close(self) -> None:
        """No more frames will come."""
        try:
            self._frames.put_nowait(_CLOSED)
        except queue.Full:  # one is taken meanwhile: its place is free then
            self._frames.get_nowait()
            self._frames.put_nowait(_CLOSED)

    def _read(self) -> Iterator[SourceFrame]:
        while isinstance(frame := self._frames.get(), SourceFrame):
            yield frame


def read_frame(message: bytes) -> SourceFrame:
    """A frame as a visitor sends it: its time and a JPEG.

    Raises:
        VisoloError: if it is anything else, or has too many pixels.
    """
    try:
        (time_s,) = HEADER.unpack_from(message)
    except struct.error as error:
        raise VisoloError("a frame is cut short") from error
    if not 0 <= time_s < 1e9:
        raise VisoloError("a frame's time must be in seconds from 0 on")
    return SourceFrame(read_jpeg(message[HEADER.size :], LARGEST), time_s)
