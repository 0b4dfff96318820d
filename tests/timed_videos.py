"""Videos for tests whose frames have given times, in any container, with sound or a cover."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from visolo_runtime.video.sample_clip import sample_frames

TICK = Fraction(1, 90_000)
"""Seconds of a unit of all times here."""

OPTIONS: dict[str, dict[str, str]] = {
    "libx264": {"preset": "ultrafast", "bf": "2", "crf": "18"},
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=none:pools=1:bframes=2"},
    "libvpx": {"deadline": "realtime", "cpu-used": "8"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
    "mpeg2video": {"bf": "2", "q": "3"},
    "mpeg4": {"bf": "2", "q": "3"},
    "mjpeg": {"q": "3"},
}
PIXELS = {"mjpeg": "yuvj420p"}
_CONSTANT_RATE = ("mpeg2video", "mpeg4", "mjpeg")  # FFmpeg's encoders know no other


def at_rate(rate: float, count: int, begin_s: float = 0) -> list[float]:
    """Times in seconds of frames at a constant rate."""
    return [begin_s + number / rate for number in range(count)]


def write_at(
    path: Path,
    times_s: Sequence[float],
    codec: str = "libx264",
    size: tuple[int, int] = (48, 64),
    aspect: Fraction = Fraction(1),
    sound: str = "",
    cover: bool = False,
) -> Path:
    """A video of the drawn clip.

    Args:
        path: its ending says which container.
        times_s: of the frames.
        codec: FFmpeg's name of an encoder.
        size: height and width.
        aspect: of the pixels.
        sound: FFmpeg's name of an encoder; silent without one.
        cover: whether it has a cover picture, after the video in the list of streams.
    """
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=25)
        stream.height, stream.width = size
        stream.pix_fmt = PIXELS.get(codec, "yuv420p")
        stream.options = {**OPTIONS[codec], "g": "8"}
        stream.codec_context.time_base = Fraction(1, 25) if codec in _CONSTANT_RATE else TICK
        stream.codec_context.sample_aspect_ratio = aspect
        audio = _add_sound(container, sound) if sound else None
        if cover:
            _add_cover(container)
        packets: list[Any] = []
        for time_s, picture in zip(times_s, sample_frames(len(times_s), *size), strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(
                format=stream.pix_fmt
            )
            frame.time_base = TICK
            frame.pts = round(time_s / TICK)
            packets += stream.encode(frame)
        packets += stream.encode(None)
        if cover:
            _mux_cover(container)
        for packet in packets:
            container.mux(packet)
        if audio is not None:
            _write_sound(container, audio, times_s[-1] + 0.5)
    return path


def _add_cover(container: Any) -> None:
    from av.stream import Disposition

    stream = container.add_stream("mjpeg", rate=1)
    stream.width, stream.height, stream.pix_fmt = 40, 40, "yuvj420p"
    stream.disposition = Disposition.attached_pic


def _mux_cover(container: Any) -> None:
    from av.stream import Disposition

    for stream in container.streams.video:
        if stream.disposition & Disposition.attached_pic:
            picture = np.full((40, 40, 3), 200, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame = frame.reformat(format="yuvj420p")
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))


def _add_sound(container: Any, codec: str) -> Any:
    return container.add_stream(codec, rate=48_000, layout="mono")


def _write_sound(container: Any, stream: Any, seconds: float) -> None:
    tone = np.sin(np.arange(round(seconds * 48_000), dtype=np.float32) * np.float32(0.05)) * 0.3
    stream.codec_context.open(strict=False)
    resampler = av.AudioResampler(
        format=stream.codec_context.format,
        layout="mono",
        rate=48_000,
        frame_size=stream.codec_context.frame_size or 1024,
    )
    frame = av.AudioFrame.from_ndarray(tone[None].astype(np.float32), format="fltp", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = 48_000, 0, Fraction(1, 48_000)
    for part in [*resampler.resample(frame), *resampler.resample(None), None]:
        container.mux(stream.encode(part))
