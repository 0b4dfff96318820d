"""Decoding with FFmpeg: the frames of a container, with their times."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from visolo_core.errors import VisoloError
from visolo_runtime.sources.clip import DEFAULT_FPS, Notice, Skipped, SourceFrame
from visolo_runtime.sources.damage import Undecodable, Unmarked, decoded_frames, message
from visolo_runtime.sources.deinterlacing import deinterlaced
from visolo_runtime.sources.frame_times import FrameTimes
from visolo_runtime.sources.upright import pixel_aspect, upright

_OPEN_TIMEOUT_S, _READ_TIMEOUT_S = 10.0, 10.0
_CUT_SHORT_S = 0.5  # the length in a header is not exact


def frame_rate(container: Any) -> Fraction:
    """Frames a second of a container's video, as it states them."""
    stream = video_stream(container)
    return Fraction(stream.average_rate or stream.guessed_rate or DEFAULT_FPS)


def video_stream(container: Any) -> Any:
    """The first stream that is a video rather than a cover picture; None if there is none."""
    from av.stream import Disposition

    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
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
        only = ", only a cover picture" if container.streams.video else ""
        container.close()
        raise VisoloError(f"'{name}' has no video stream{only}: name a video file")
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
        frames = decoded_frames(container, stream, again if is_file else None)
        if deinterlace:
            frames = deinterlaced(frames, stream.time_base)
        yield from _timed(frames, container, stream)


def _timed(
    frames: Iterator[Any], container: Any, stream: Any
) -> Iterator[SourceFrame | Skipped | Notice]:
    from av.format import Flags

    may_jump = bool(container.format.flags & Flags.ts_discont.value)
    times = FrameTimes(frame_rate(container), may_jump)
    aspect = pixel_aspect(stream)
    in_order = container.format.name == "avi"  # FFmpeg gives the times of another frame
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
        pts = frame.dts if in_order else frame.pts
        at = None if pts is None else pts * stream.time_base
        is_damaged = bool(frame.is_corrupt)
        time_s, notice = times.next(at, is_damaged or was_damaged or skipped > 0, skipped)
        if notice:
            yield notice
        if is_damaged and not was_damaged:
            yield Notice(f"damaged data at {time_s:.2f} s, FFmpeg fills in what is missing")
        begun, was_damaged, skipped = True, is_damaged, 0
        end_s = None if at is None else at + (frame.duration or 0) * stream.time_base
        picture, turned = upright(frame)
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
        return (stream.start_time or 0) * stream.time_base + stream.duration * stream.time_base
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
