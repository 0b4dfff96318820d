"""The sound of a file, in time with its frames."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

from visolo_core.errors import VisoloError
from visolo_runtime.sources.damage import Undecodable, Unmarked, decoded_frames
from visolo_runtime.sources.decoding import open_container, video_stream


class Audio:
    """The packets of a file's first sound track. Close it, or use it in a ``with`` block.

    Args:
        path: of a video file.

    Raises:
        VisoloError: if the file cannot be opened, or has no sound or no frame.
    """

    def __init__(self, path: Path) -> None:
        address = f"file:{path}"
        begin_s = _first_frame_s(address)
        self._container = open_container(address)
        if begin_s is None or not self._container.streams.audio:
            self._container.close()
            raise VisoloError(f"'{path}' has no sound that goes with its frames")
        self.stream = self._container.streams.audio[0]
        """PyAV's stream"""
        self._begin = round(begin_s / self.stream.time_base)

    def packets(self) -> Iterator[tuple[Any, float]]:
        """Packets whose times are counted from the first frame, and those times in seconds.

        Sound from before the first frame is left out, and so is what is damaged or repeated.
        """
        import av

        last: int | None = None
        packets = self._container.demux(self.stream)
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError:
                return  # decoding the frames meets and reports the same damage
            if packet is None:
                return
            if packet.pts is None or packet.is_corrupt or not packet.size:
                continue
            begin = packet.pts - self._begin
            if begin < 0 or (last is not None and begin <= last):
                continue
            packet.pts = packet.dts = last = begin
            yield packet, float(begin * self.stream.time_base)

    def close(self) -> None:
        self._container.close()

    def __enter__(self) -> Audio:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _first_frame_s(address: str) -> Fraction | None:
    """When the first frame is shown by FFmpeg's clock; None if there is none."""
    with open_container(address) as container:
        stream = video_stream(container)
        for frame in decoded_frames(container, stream, None):
            if not isinstance(frame, (Undecodable, Unmarked)):
                # AVI's times are those of another frame, and it begins at 0.
                numbered = container.format.name == "avi" or frame.pts is None
                return Fraction(0) if numbered else Fraction(frame.pts * stream.time_base)
    return None
