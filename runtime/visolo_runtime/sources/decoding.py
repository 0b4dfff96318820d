"""Decoding with FFmpeg: the frames of a container, with their times."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from visolo_core.errors import VisoloError
from visolo_runtime.sources.clip import DEFAULT_FPS, Skipped, SourceFrame
from visolo_runtime.video.frames import Picture

_OPEN_TIMEOUT_S, _READ_TIMEOUT_S = 10.0, 10.0


def frame_rate(container: Any) -> Fraction:
    """Frames a second of a container's video, as it states them."""
    stream = container.streams.video[0]
    return Fraction(stream.average_rate or stream.guessed_rate or DEFAULT_FPS)


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
        raise VisoloError(f"cannot open '{name}' as a video: {_message(error)}") from error
    if not container.streams.video:
        container.close()
        raise VisoloError(f"'{name}' has no video stream: name a video file")
    return container


def decode(
    name: str,
    driver: str | None = None,
    options: dict[str, str] | None = None,
    opened: Any = None,
) -> Iterator[SourceFrame | Skipped]:
    """The frames of a video. Packets that cannot be decoded are skipped; a broken stream ends."""
    import av

    with opened or open_container(name, driver, options) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        packets, rate = container.demux(stream), frame_rate(container)
        first: Fraction | None = None
        time_s: float | None = None
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.FFmpegError as error:
                # The container itself is broken from here on; nothing more can be read from it.
                yield Skipped(f"the video is cut short: {_message(error)}")
                return
            try:
                for frame in packet.decode():
                    if frame.pts is not None:
                        at = Fraction(frame.pts) * frame.time_base
                        first = at if first is None else first
                        time_s = float(at - first)
                    else:  # as long after the last one as the container's rate says
                        time_s = 0.0 if time_s is None else time_s + float(1 / rate)
                    yield _read(frame, time_s)
            except av.FFmpegError as error:
                yield Skipped(_message(error))


def _read(frame: Any, time_s: float) -> SourceFrame | Skipped:
    if frame.is_corrupt:
        return Skipped("damaged data", time_s)
    picture: Picture = frame.to_ndarray(format="rgb24")
    # Phones store portrait video on its side, with the rotation to apply.
    turns = round(frame.rotation / 90) % 4
    if turns:
        picture = np.ascontiguousarray(np.rot90(picture, turns))
    return SourceFrame(picture, time_s)


def _message(error: Exception) -> str:
    """FFmpeg's message without the error number and the file name around it."""
    text = getattr(error, "strerror", None) or str(error)
    return str(text).lower()
