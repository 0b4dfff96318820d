"""The frames with their instances drawn on them, as a video."""

from __future__ import annotations

import contextlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visolo_core.errors import VisoloError
from visolo_core.instances import Instances
from visolo_core.results import Track
from visolo_runtime.sinks.audio_track import AudioTrack
from visolo_runtime.sinks.drawing import draw_instances
from visolo_runtime.sinks.sink import FileSink
from visolo_runtime.sources.clip import Clip, SourceFrame

_TICK = Fraction(1, 360_000)
"""Seconds. The frames of all usual rates begin at whole ticks, 24000/1001 included."""
_LONGEST_S = 3600.0
"""Of one frame: mp4 cannot express much more."""
_BT601, _LIMITED_RANGE = 6, 1
"""FFmpeg's numbers of the colours that frames are converted to."""
_IN_FRAGMENTS = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
"""Each with an index of its own. That of a whole video is kept until its end, 80 bytes a frame,
and a live source may have none."""


class AnnotatedVideo(FileSink):
    """The frames with masks, track numbers, labels and scores, as H.264 in mp4.

    Each is shown at its own time, with the source's pixel aspect, and with the sound of a file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._container: Any = None
        self._stream: Any = None
        self._audio: AudioTrack | None = None
        self._packet: Any = None  # the latest, whose duration is known when the next one is
        self._time_s = self._shown_s = 0.0  # of the last frame: by the source, and in the video
        self._finished = False

    def frame(self, clip: Clip, frame: SourceFrame, instances: Instances) -> None:
        import av

        picture = _even(draw_instances(frame.picture, instances))
        if self._container is None:
            # The video begins with its first frame, also where others before it were skipped.
            self._time_s, self._shown_s = frame.time_s, 0.0
            self._open(clip, frame.pixel_aspect, picture.shape[1], picture.shape[0])
        else:
            # At least a tick, so that the times rise.
            distance_s = min(max(frame.time_s - self._time_s, float(_TICK)), _LONGEST_S)
            self._time_s, self._shown_s = frame.time_s, self._shown_s + distance_s
        video_frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        video_frame.pts = round(self._shown_s / _TICK)
        video_frame.time_base = _TICK
        self._mux(self._stream.encode(video_frame))
        if self._audio is not None:
            self._audio.write_until(self._shown_s)

    def _open(self, clip: Clip, aspect: Fraction, width: int, height: int) -> None:
        import av

        # Without "file:" FFmpeg takes a name with a colon for an address.
        options = _IN_FRAGMENTS if clip.live else {}
        container = av.open(f"file:{self._temporary}", "w", format="mp4", options=options)
        try:
            # Some containers state rates with terms that are too large for H.264.
            stream = container.add_stream("libx264", rate=clip.fps.limit_denominator(1001))
        except (av.FFmpegError, ValueError) as error:
            container.close()
            raise VisoloError(
                f"cannot write H.264 video with this PyAV ({error}): install 'av' from PyPI"
            ) from error
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        # Without B-frames, the length that mp4 states is exact at any rate.
        stream.options = {"crf": "20", "preset": "veryfast", "bf": "0"}
        context = stream.codec_context
        context.time_base = stream.time_base = _TICK
        context.sample_aspect_ratio = aspect
        context.colorspace, context.color_range = _BT601, _LIMITED_RANGE
        self._container, self._stream = container, stream
        if clip.audio is not None:
            with contextlib.suppress(VisoloError):  # the frames are what is asked for
                self._audio = AudioTrack(container, clip.audio)

    def _mux(self, packets: list[Any]) -> None:
        for packet in packets:
            if self._packet is not None:
                self._container.mux(self._packet)
            self._packet = packet

    def end(self, clip: Clip, tracks: list[Track]) -> None:
        # Closed here, so that a data set does not keep an encoder open for every clip.
        if self._container is not None:
            self._mux(self._stream.encode(None))
            end_s = self._shown_s + float(1 / clip.fps)
            self._packet.duration = round(end_s / _TICK) - self._packet.pts
            self._container.mux(self._packet)
            if self._audio is not None:
                self._audio.write_until(end_s)
                self._audio.close()
            self._container.close()
            self._container = self._stream = self._audio = self._packet = None
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
            if self._audio is not None:
                self._audio.close()
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
