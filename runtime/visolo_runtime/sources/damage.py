"""The frames that FFmpeg decodes of a video, damaged or not: the same ones every time.

FFmpeg decodes several frames at once, each in a thread of its own. That is fast, but what it makes
of damaged data depends on which thread is ahead. So a file is decoded in this way only up to its
first damage. From there on, a second decoder decodes one frame after another. It begins at the last
key frame before the damage, and drops the frames that have been decoded already.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from visolo_runtime.sources.clip import CUT_SHORT

_MOST_KEPT = 256 << 20
"""Bytes of packets since a key frame. A video with fewer key frames goes on with one thread."""


_BETWEEN_PACKETS = 512
"""Bytes that Matroska needs at most for what it says of a packet."""
_CLOSE = 32
"""Frames from the last sound one within which FFmpeg marks damage, if it marks it at all."""


@dataclass(frozen=True)
class Undecodable:
    """Stands for a packet of which nothing can be decoded."""

    reason: str


@dataclass(frozen=True)
class Unmarked:
    """There is damage before this place that no frame is marked with."""


def decoded_frames(
    container: Any,
    stream: Any,
    again: Callable[[], tuple[Any, Any]] | None,
    on_hole: Callable[[], None] = lambda: None,
) -> Iterator[Any]:
    """FFmpeg's frames of a stream in order of presentation, ``Undecodable`` and ``Unmarked``.

    Every frame that FFmpeg can decode is among them; ``is_corrupt`` is true where it had to fill in
    what is missing.

    Args:
        container: from which no packet has been read.
        stream: of its video.
        again: opens the same container, with its stream, once more. None if that is not possible:
            then frames are decoded one after another.
        on_hole: called when bytes of the container turn out to belong to nothing, a little before
            the frames that follow the hole are decoded.
    """
    packets = _packets(container, stream, on_hole)
    if again is None:
        # Threads for the parts of one frame: exact, and no frame waits for the next ones.
        stream.thread_type = "SLICE"
        yield from _one_by_one(stream.codec_context, packets)
        return
    first = _UpToDamage(stream.codec_context, packets)
    yield from first.frames()
    if first.finished:
        return
    other, stream = again()
    with other:
        stream.codec_context.thread_count = 1
        frames = _one_by_one(stream.codec_context, first.kept_and_following())
        frames = _after(first.last_pts, frames)
        yield from _with_mark(frames) if first.refused else frames


@dataclass
class _UpToDamage:
    """Decodes with threads, and keeps the packets that another decoder would need to go on."""

    context: Any
    packets: Iterator[Any]
    last_pts: int | None = None
    """of the last frame that was decoded"""
    finished: bool = False
    """whether there are no more frames"""
    refused: bool = False
    """whether the decoder met damage"""
    _kept: deque[Any] = field(default_factory=deque)
    _key_frames: deque[Any] = field(default_factory=deque)
    """those of the kept packets at which a decoder can begin"""
    _kept_bytes: int = 0

    def frames(self) -> Iterator[Any]:
        import av

        self.context.thread_type = "AUTO"
        # Without it, FFmpeg reports only some damage, and which depends on the threads.
        self.context.options = {"err_detect": "explode"}
        sent = decoded = 0
        try:
            for packet in self.packets:
                self._keep(packet)
                if isinstance(packet, Undecodable):
                    return
                sent += 1
                for frame in self.context.decode(packet):
                    if not self._is_sound(frame):
                        return
                    decoded += 1
                    yield frame
                if self._kept_bytes > _MOST_KEPT:
                    return
            for frame in self.context.decode(None):
                if not self._is_sound(frame):
                    return
                decoded += 1
                yield frame
        except av.FFmpegError:
            self.refused = True
            return
        # PyAV hides an error that follows a frame. If there are other reasons for a difference,
        # such as pictures that are never shown, decoding the last frames again adds nothing.
        self.finished = decoded == sent

    def kept_and_following(self) -> Iterator[Any]:
        """The packets since a key frame before the last frame, and those not read yet."""
        while self._kept:
            yield self._kept.popleft()
        yield from self.packets

    def _keep(self, packet: Any) -> None:
        self._kept.append(packet)
        if isinstance(packet, Undecodable):
            return
        self._kept_bytes += packet.size
        if packet.is_keyframe and packet.pts is not None:
            self._key_frames.append(packet)

    def _is_sound(self, frame: Any) -> bool:
        if frame.is_corrupt or frame.pts is None:  # without times, frames cannot be told apart
            return False
        self.last_pts = frame.pts
        # Frames that follow the last one on the screen need nothing from before this key frame.
        while self._key_frames and self._key_frames[0].pts <= frame.pts:
            key_frame = self._key_frames.popleft()
            while self._kept[0] is not key_frame:
                self._kept_bytes -= self._kept.popleft().size
        return True


def _one_by_one(context: Any, packets: Iterable[Any]) -> Iterator[Any]:
    import av

    end: Undecodable | None = None
    for packet in packets:
        if isinstance(packet, Undecodable):
            end = packet
            break
        try:
            yield from context.decode(packet)
        except av.FFmpegError as error:
            yield Undecodable(message(error))
    try:
        yield from context.decode(None)
    except av.FFmpegError as error:
        yield Undecodable(message(error))
    if end is not None:
        yield end


def _after(last_pts: int | None, frames: Iterator[Any]) -> Iterator[Any]:
    """The frames after the one of this time."""
    if last_pts is not None:
        for frame in frames:
            if not isinstance(frame, Undecodable) and frame.pts == last_pts:
                break
    yield from frames


def _with_mark(frames: Iterator[Any]) -> Iterator[Any]:
    """Adds ``Unmarked`` if nothing in the first frames tells of damage."""
    for each in islice(frames, _CLOSE):
        yield each
        if isinstance(each, Undecodable) or each.is_corrupt:
            yield from frames
            return
    yield Unmarked()
    yield from frames


def _packets(container: Any, stream: Any, on_hole: Callable[[], None]) -> Iterator[Any]:
    """The packets of a stream; ``Undecodable`` at the end if the container breaks off."""
    import av

    # Matroska goes on at the next element that it knows, and says nothing of the bytes before it.
    # They are seen only if the packets of all streams are.
    has_holes = container.format.name == "matroska,webm"
    packets = container.demux() if has_holes else container.demux(stream)
    end: int | None = None
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except av.FFmpegError as error:
            # The container itself is broken from here on; nothing more can be read from it.
            yield Undecodable(CUT_SHORT + message(error))
            return
        if not packet.size:  # it would end the decoder
            continue
        if has_holes and packet.pos is not None:
            if end is not None and packet.pos > end + _BETWEEN_PACKETS:
                on_hole()
            end = packet.pos + packet.size
        if packet.stream_index == stream.index:
            yield packet


def message(error: Exception) -> str:
    """FFmpeg's message without the error number and the file name around it."""
    text = getattr(error, "strerror", None) or str(error)
    return str(text).lower()
