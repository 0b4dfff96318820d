"""The frames with their instances drawn on them, as a video."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visolo_core.errors import VisoloError
from visolo_core.instances import Instances
from visolo_core.results import Track
from visolo_runtime.sinks.drawing import draw_instances
from visolo_runtime.sinks.sink import FileSink
from visolo_runtime.sources.clip import Clip, SourceFrame


class AnnotatedVideo(FileSink):
    """The frames with masks, track numbers, labels and scores, as H.264 in mp4."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._container: Any = None
        self._stream: Any = None
        self._tick = Fraction(1)
        self._finished = False

    def frame(self, clip: Clip, frame: SourceFrame, instances: Instances) -> None:
        import av

        picture = _even(draw_instances(frame.picture, instances))
        if self._container is None:
            self._open(clip.fps, picture.shape[1], picture.shape[0])
        video_frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        # A skipped frame leaves a gap, so that the video keeps its timing.
        video_frame.pts = instances.frame
        video_frame.time_base = self._tick
        self._container.mux(self._stream.encode(video_frame))

    def _open(self, fps: Fraction, width: int, height: int) -> None:
        import av

        # FFmpeg's mp4 cannot express the rates with huge terms that some containers state.
        rate = fps.limit_denominator(1001)
        # Without "file:" FFmpeg takes a name with a colon for an address.
        container = av.open(f"file:{self._temporary}", "w", format="mp4")
        try:
            stream = container.add_stream("libx264", rate=rate)
        except (av.FFmpegError, ValueError) as error:
            container.close()
            raise VisoloError(
                f"cannot write H.264 video with this PyAV ({error}): install 'av' from PyPI"
            ) from error
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "20", "preset": "veryfast"}
        stream.codec_context.time_base = 1 / rate
        self._container, self._stream, self._tick = container, stream, 1 / rate

    def end(self, clip: Clip, tracks: list[Track]) -> None:
        # Closed here, so that a data set does not keep an encoder open for every clip.
        if self._container is not None:
            self._container.mux(self._stream.encode(None))
            self._container.close()
            self._container = None
            self._finished = True

    def commit(self) -> None:
        if self._finished:
            super().commit()
        else:
            self.discard()  # interrupted before the first frame

    def discard(self) -> None:
        import av

        container, self._container, self._stream = self._container, None, None
        try:
            if container is not None:
                container.close()
        except (OSError, av.FFmpegError):
            pass  # of a full disk: what could not be written is removed
        finally:
            super().discard()


def _even(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A frame padded to even sides, which H.264's halved colour resolution requires."""
    height, width = picture.shape[:2]
    if height % 2 or width % 2:
        picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return np.ascontiguousarray(picture)
