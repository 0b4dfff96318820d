"""Decoding with FFmpeg: the frames of a container, with their times."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from typing import Any

from visolo_core.errors import VisoloError
from visolo_runtime.sources.clip import DEFAULT_FPS, Notice, Skipped, SourceFrame
from visolo_runtime.sources.damage import Undecodable, Unmarked, decoded_frames, message
from visolo_runtime.sources.deinterlacing import deinterlaced
from visolo_runtime.sources.frame_times import FrameTimes
from visolo_runtime.sources.upright import Upright, pixel_aspect

_OPEN_TIMEOUT_S, _READ_TIMEOUT_S = 10.0, 10.0
_CUT_SHORT_S = 0.5  # the length in a header is not exact
_NEAR = 32
"""Frames between a packet that is read and the frame that is decoded of it, at most."""


def frame_rate(container: Any) -> Fraction:
    """Frames a second of a container's video, as it states them."""
    stream = video_stream(container)
    return Fraction(stream.average_rate or stream.guessed_rate or DEFAULT_FPS)


def video_stream(container: Any) -> Any:
    """The first stream that is a video rather than a cover picture, in a codec that FFmpeg knows;
    None if there is none."""
    from av.stream import Disposition

    for stream in container.streams.video:
        is_cover = stream.disposition & Disposition.attached_pic
        if not is_cover and stream.codec_context is not None:
            return stream
    return None


def open_container(
    source: Any,
    driver: str | None = None,
    options: dict[str, str] | None = None,
    shown: str | None = None,
    timeout: tuple[float, float] | None = (_OPEN_TIMEOUT_S, _READ_TIMEOUT_S),
) -> Any:
    """Open an address, or a file object, whose name is ``shown``."""
    import av

    name = shown or str(source).removeprefix("file:")
    try:
        container = av.open(source, format=driver, options=options or {}, timeout=timeout)
    except (av.FFmpegError, OSError) as error:
        raise VisoloError(f"cannot open '{name}' as a video: {message(error)}") from error
    if video_stream(container) is None:
        only = " but a cover picture or one that FFmpeg cannot decode"
        problem = f"no video stream{only if container.streams.video else ''}"
        container.close()
        raise VisoloError(f"'{name}' has {problem}: name a video file")
    return container


def decode(
    name: str,
    driver: str | None = None,
    options: dict[str, str] | None = None,
    opened: Any = None,
    deinterlace: bool = False,
) -> Iterator[SourceFrame | Skipped | Notice]:
    """The frames of a video, turned as they are meant to be seen.

    Every frame that FFmpeg can decode is among them, and where it had to fill in what is missing, a
    notice says so. What it cannot decode is skipped. A file has the same frames every time. A
    container that breaks off ends the clip.

    Args:
        name: a file, as ``file:PATH``, or an address.
        driver: FFmpeg's name of the format; None lets it find out.
        options: of the format.
        opened: the container, if it has been opened.
        deinterlace: make whole pictures of the fields of interlaced frames.
    """

    def again() -> tuple[Any, Any]:
        container = open_container(name, driver, options)
        return container, video_stream(container)

    with opened or open_container(name, driver, options) as container:
        stream = video_stream(container)
        is_file = opened is None and name.startswith("file:")
        holes = _Holes()
        frames = decoded_frames(container, stream, again if is_file else None, holes.add)
        if deinterlace:
            frames = deinterlaced(frames, stream.time_base)
        yield from _timed(_LookAhead(frames), container, stream, holes)


@dataclass
class _Holes:
    """Whether bytes of the container are missing, near the frames that are being decoded."""

    frames_left: int = 0

    def add(self) -> None:
        self.frames_left = _NEAR

    def near(self) -> bool:
        """Asked once for each frame."""
        self.frames_left -= 1
        return self.frames_left >= 0


class _LookAhead:
    """Frames one after the other, of which the next ones can be looked at."""

    def __init__(self, frames: Iterator[Any]) -> None:
        self._frames, self._ahead = frames, deque[Any]()

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return self._ahead.popleft() if self._ahead else next(self._frames)

    def next_frame(self) -> Any:
        """The next one that is a frame, without taking it; None if there is none near."""
        for each in self._ahead:
            if not isinstance(each, (Undecodable, Unmarked)):
                return each
        for each in islice(self._frames, _NEAR):
            self._ahead.append(each)
            if not isinstance(each, (Undecodable, Unmarked)):
                return each
        return None


def _timed(
    frames: _LookAhead, container: Any, stream: Any, holes: _Holes
) -> Iterator[SourceFrame | Skipped | Notice]:
    from av.format import Flags

    may_jump = bool(container.format.flags & Flags.ts_discont.value)
    times = FrameTimes(frame_rate(container), may_jump)
    aspect, upright = pixel_aspect(stream), Upright()
    is_avi = container.format.name == "avi"

    def clock(frame: Any) -> Fraction | None:
        # In AVI, a frame has the time of another, and its own where others have that of decoding.
        units = None if frame is None else frame.dts if is_avi else frame.pts
        return None if units is None else Fraction(units * stream.time_base)

    undecodable: list[Undecodable] = []
    begun, was_damaged, skipped = False, False, 0
    end_s: Fraction | None = None
    for frame in frames:
        if isinstance(frame, Undecodable):
            if begun:
                skipped += 1
                yield Skipped(frame.reason)
            else:
                undecodable.append(frame)
            continue
        if isinstance(frame, Unmarked):
            yield Notice("some of its data is damaged, FFmpeg fills in what is missing")
            continue
        if undecodable:
            yield _before_the_first(undecodable)
            undecodable.clear()
        at, is_damaged = clock(frame), bool(frame.is_corrupt)
        lost = is_damaged or was_damaged or skipped > 0 or holes.near()
        time_s, notice = times.next(at, lost, skipped, lambda: clock(frames.next_frame()))
        if notice:
            yield notice
        if is_damaged and not was_damaged:
            yield Notice(f"damaged data at {time_s:.2f} s, FFmpeg fills in what is missing")
        begun, was_damaged, skipped = True, is_damaged, 0
        end_s = None if at is None else at + (frame.duration or 0) * stream.time_base
        picture, turned = upright.picture(frame)
        yield SourceFrame(picture, time_s, 1 / aspect if turned else aspect)
    yield from (Skipped(each.reason) for each in undecodable)
    if end_s is not None and not may_jump:
        missing_s = float(_stated_end(stream) - end_s)
        if missing_s > max(_CUT_SHORT_S, 2 * times.usual_s):
            text = f"it ends {missing_s:.2f} s earlier than its header says"
            yield Notice(text, missing_s)


def _stated_end(stream: Any) -> Fraction:
    """When a stream is over by FFmpeg's clock, in seconds; 0 if its header does not say."""
    if stream.duration is not None:
        return Fraction(((stream.start_time or 0) + stream.duration) * stream.time_base)
    stated = re.fullmatch(r"(\d+):(\d+):(\d+\.?\d*)", stream.metadata.get("DURATION", ""))
    if stated is None:
        return Fraction(0)
    hours, minutes, seconds = (Fraction(part) for part in stated.groups())
    return hours * 3600 + minutes * 60 + seconds


def _before_the_first(undecodable: list[Undecodable]) -> Notice:
    """About what cannot be decoded before the first frame, such as the rest of a group of frames
    whose key frame was not recorded."""
    count = len(undecodable)
    packets = "packet" if count == 1 else f"{count} packets"
    return Notice(f"the first {packets} cannot be decoded: {undecodable[0].reason}")
