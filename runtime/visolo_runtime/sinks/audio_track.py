"""The sound of a clip in a video that is being written."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from visolo_core.errors import VisoloError
from visolo_runtime.sources.audio import Audio

_IN_MP4 = {"aac", "ac3", "alac", "eac3", "mp3", "opus"}
"""FFmpeg's names of what mp4 holds and players know; anything else is encoded as AAC."""


class AudioTrack:
    """Copies sound into an mp4 beside its frames, so that nothing has to be kept.

    Args:
        container: PyAV's, of the mp4, before its first packet.
        path: of a file with sound.

    Raises:
        VisoloError: if its sound cannot be read.
    """

    def __init__(self, container: Any, path: Path) -> None:
        import av

        self._container, self._audio = container, Audio(path)
        stream = self._audio.stream
        try:
            if stream.codec_context.codec.canonical_name in _IN_MP4:
                self._stream = container.add_stream_from_template(stream)
                self._packets = self._copied()
            else:
                self._stream = container.add_stream(
                    "aac", rate=stream.rate, layout=_layout_of(stream)
                )
                self._packets = self._encoded()
        except (av.FFmpegError, ValueError) as error:
            self._audio.close()
            raise VisoloError(f"the sound of '{path}' cannot be written: {error}") from error
        self._next: tuple[Any, float] | None = None

    def write_until(self, time_s: float) -> None:
        """Write what begins before ``time_s`` seconds after the first frame."""
        while True:
            self._next = self._next or next(self._packets, None)
            if self._next is None or self._next[1] >= time_s:
                return
            self._container.mux(self._next[0])
            self._next = None

    def close(self) -> None:
        self._audio.close()

    def _copied(self) -> Iterator[tuple[Any, float]]:
        for packet, begin_s in self._audio.packets():
            packet.stream = self._stream
            yield packet, begin_s

    def _encoded(self) -> Iterator[tuple[Any, float]]:
        import av

        resampler = av.AudioResampler(
            format="fltp", layout=_layout_of(self._audio.stream), rate=self._stream.rate,
            frame_size=1024,
        )  # fmt: skip
        for packet, _ in self._audio.packets():
            with contextlib.suppress(av.FFmpegError):  # damaged: silence
                for frame in self._audio.stream.codec_context.decode(packet):
                    yield from self._encode(resampler.resample(frame))
        yield from self._encode(resampler.resample(None))
        yield from self._encode([None])

    def _encode(self, frames: list[Any]) -> Iterator[tuple[Any, float]]:
        for frame in frames:
            for packet in self._stream.encode(frame):
                yield packet, float(packet.pts * packet.time_base)


def _layout_of(stream: Any) -> str:
    """AAC of one or two channels plays everywhere."""
    return "mono" if stream.channels == 1 else "stereo"
