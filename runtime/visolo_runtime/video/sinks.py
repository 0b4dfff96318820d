"""Where results are written: an annotated video, a results file, one JSON line per frame.

A sink writes to a temporary file. ``commit`` gives the file its name, also after an interrupt, so
that the results so far are usable; ``discard`` removes it.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from visolo_core.categories import LabelSet
from visolo_core.errors import VisoloError
from visolo_core.files import (
    give_name,
    is_written_through,
    open_through,
    reason,
    temporary_beside,
)
from visolo_core.instances import Instances
from visolo_core.results import Track, VideoResult, frame_record, ytvis_results
from visolo_runtime.video.drawing import draw_instances
from visolo_runtime.video.sources import Clip, Skipped

STANDARD_OUTPUT = "-"


class Sink:
    """Receives the results of a run; each method does nothing unless a subclass overrides it.

    The methods are called in the order below for each clip; several clips may be open at once.
    """

    def begin(self, clip: Clip) -> None:
        """A clip begins."""

    def frame(self, clip: Clip, frame: NDArray[np.uint8], instances: Instances) -> None:
        """A frame has its instances."""

    def skipped(self, clip: Clip, position: int, skipped: Skipped) -> None:
        """The frame at ``position`` could not be read."""

    def end(self, clip: Clip, tracks: list[Track]) -> None:
        """A clip is over."""

    def commit(self) -> None:
        """Finish the file and give it its name."""

    def discard(self) -> None:
        """Remove everything that was written."""


class FileSink(Sink):
    """Writes one file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._temporary = temporary_beside(path)

    def commit(self) -> None:
        give_name(self._temporary, self._path)

    def discard(self) -> None:
        self._temporary.unlink(missing_ok=True)


class ResultsFile(FileSink):
    """``results.json`` in the YouTube-VIS submission format."""

    def __init__(self, path: Path, labels: LabelSet) -> None:
        super().__init__(path)
        self._labels = labels
        self._results: list[VideoResult] = []

    def end(self, clip: Clip, tracks: list[Track]) -> None:
        self._results += ytvis_results(clip.video_id, tracks, self._labels)

    def commit(self) -> None:
        self._temporary.write_text(json.dumps(self._results), encoding="utf-8")
        super().commit()


class FrameLines(Sink):
    """One JSON line per frame, written as soon as the frame is done."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def frame(self, clip: Clip, frame: NDArray[np.uint8], instances: Instances) -> None:
        self._write(
            {
                "video_id": clip.video_id,
                "frame": instances.frame,
                "size": list(instances.size),
                "instances": frame_record(instances),
            }
        )

    def skipped(self, clip: Clip, position: int, skipped: Skipped) -> None:
        self._write({"video_id": clip.video_id, "frame": position, "skipped": skipped.reason})

    def _write(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()


class FrameLinesFile(FileSink, FrameLines):
    """``FrameLines`` written to a file."""

    def __init__(self, path: Path) -> None:
        FileSink.__init__(self, path)
        FrameLines.__init__(self, self._temporary.open("w", encoding="utf-8"))

    def commit(self) -> None:
        self._file.close()
        super().commit()

    def discard(self) -> None:
        self._file.close()
        super().discard()


class FrameLinesDevice(FrameLines):
    """``FrameLines`` written to a device or a FIFO, whose reader gets each at once.

    Raises:
        VisoloError: if it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        try:
            super().__init__(io.TextIOWrapper(open_through(path), encoding="utf-8"))
        except OSError as error:
            raise VisoloError(f"cannot write '{path}': {reason(error)}") from error

    def commit(self) -> None:
        self._file.close()

    def discard(self) -> None:
        with contextlib.suppress(OSError):  # its reader has gone, with all that was written
            self._file.close()


def frame_lines(path: Path) -> FrameLines:
    """The sink of a line for each frame; ``-`` means standard output.

    Raises:
        VisoloError: if it cannot be written.
    """
    if str(path) == STANDARD_OUTPUT:
        return FrameLines(sys.stdout)
    return FrameLinesDevice(path) if is_written_through(path) else FrameLinesFile(path)


class AnnotatedVideo(FileSink):
    """The frames with masks, track numbers, labels and scores, as H.264 in mp4."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._container: Any = None
        self._stream: Any = None
        self._tick = Fraction(1)
        self._finished = False

    def frame(self, clip: Clip, frame: NDArray[np.uint8], instances: Instances) -> None:
        import av

        picture = _even(draw_instances(frame, instances))
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
        if self._container is not None:
            self._container.close()
        super().discard()


class ClipFiles(Sink):
    """A folder with a file for each clip, named by its video id.

    Args:
        folder: created unless it exists.
        suffix: of the files.
        make: opens the sink of a path.
        option: of the command line that names it.

    Raises:
        VisoloError: if the folder is a file or cannot be written.
    """

    def __init__(
        self, folder: Path, suffix: str, make: Callable[[Path], FileSink], option: str
    ) -> None:
        if folder.exists() and not folder.is_dir():
            raise VisoloError(
                f"'{folder}' is a file, but several videos need a folder: give {option} another "
                "name"
            )
        self._is_new = not folder.exists()
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise VisoloError(f"cannot write '{folder}': {reason(error)}") from error
        self._folder, self._suffix, self._make = folder, suffix, make
        self._sinks: dict[int, FileSink] = {}

    def begin(self, clip: Clip) -> None:
        sink = self._make(clip_file(self._folder, clip, self._suffix))
        self._sinks[clip.video_id] = sink
        sink.begin(clip)

    def frame(self, clip: Clip, frame: NDArray[np.uint8], instances: Instances) -> None:
        self._sinks[clip.video_id].frame(clip, frame, instances)

    def skipped(self, clip: Clip, position: int, skipped: Skipped) -> None:
        self._sinks[clip.video_id].skipped(clip, position, skipped)

    def end(self, clip: Clip, tracks: list[Track]) -> None:
        self._sinks[clip.video_id].end(clip, tracks)

    def commit(self) -> None:
        for sink in self._sinks.values():
            sink.commit()

    def discard(self) -> None:
        for sink in self._sinks.values():
            sink.discard()
        if self._is_new:
            with contextlib.suppress(OSError):  # something else was put there
                self._folder.rmdir()


def clip_file(folder: Path, clip: Clip, suffix: str) -> Path:
    """The file of a clip in a folder with one for each."""
    return folder / f"{clip.video_id}{suffix}"


def _even(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A frame padded to even sides, which H.264's halved colour resolution requires."""
    height, width = picture.shape[:2]
    if height % 2 or width % 2:
        picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return np.ascontiguousarray(picture)
