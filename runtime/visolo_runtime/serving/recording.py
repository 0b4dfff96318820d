"""Recording a stream on the server: an annotated video and a JSON line for each frame."""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import replace
from itertools import count
from pathlib import Path

from visolo_core.errors import VisoloError
from visolo_runtime.serving.hub import Hub
from visolo_runtime.serving.hub_stream import HubStream
from visolo_runtime.serving.tracked import TrackedFrame
from visolo_runtime.sinks.annotated_video import AnnotatedVideo
from visolo_runtime.sinks.frame_lines import FrameLinesFile
from visolo_runtime.sinks.sink import Sink
from visolo_runtime.sources.clip import SourceFrame

_WAITING = 64  # frames that may wait for the encoder


class Recording:
    """Writes a stream to files until it is stopped or the stream is over.

    A thread encodes; if it cannot keep up, frames are left out and counted, and the stream goes on.

    Args:
        hub: of the stream.
        stream: to record.
        folder: for the files, which get the stream's number and the time of day as their name.

    Raises:
        VisoloError: if the files cannot be written.
    """

    def __init__(self, hub: Hub, stream: HubStream, folder: Path) -> None:
        self.files = _free_names(folder, f"stream{stream.number}-{time.strftime('%Y%m%d-%H%M%S')}")
        self.frames = self.left_out = 0
        self.failure = ""
        self._clip = replace(stream.clip, video_id=stream.number)
        self._sinks: list[Sink] = [AnnotatedVideo(self.files[0]), FrameLinesFile(self.files[1])]
        self._queue: queue.Queue[TrackedFrame | None] = queue.Queue(_WAITING)
        self._first_s: float | None = None
        self._thread = threading.Thread(target=self._write, name="visolo-record", daemon=True)
        self._stop_listening = hub.listen(stream, self._take)
        self._thread.start()

    @property
    def active(self) -> bool:
        """Whether it is still written."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """End it: its files are there when this returns."""
        self._stop_listening()
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def describe(self) -> dict[str, object]:
        """Ready for json."""
        return {
            "files": [file.name for file in self.files],
            "frames": self.frames,
            "left_out": self.left_out,
            "active": self.active,
            "failure": self.failure,
        }

    def _take(self, _: HubStream, frame: TrackedFrame | None) -> None:
        try:
            self._queue.put_nowait(frame)
        except queue.Full:
            if frame is not None:
                self.left_out += 1
                return
            threading.Thread(target=self._queue.put, args=(None,), daemon=True).start()

    def _write(self) -> None:
        try:
            for sink in self._sinks:
                sink.begin(self._clip)
            while (frame := self._queue.get()) is not None:
                self._first_s = frame.time_s if self._first_s is None else self._first_s
                shown = SourceFrame(frame.picture, frame.time_s - self._first_s)
                for sink in self._sinks:
                    sink.frame(self._clip, shown, frame.instances)
                self.frames += 1
            for sink in self._sinks:
                sink.end(self._clip, [])
                sink.commit()
        except (VisoloError, OSError) as error:
            self.failure = str(error)
            self._stop_listening()
            for sink in self._sinks:
                sink.discard()
            with self._queue.mutex:  # what waits is lost, and nobody who stops it must wait
                self._queue.queue.clear()
                self._queue.not_full.notify_all()


def _free_names(folder: Path, name: str) -> tuple[Path, Path]:
    """Files for a video and its lines that do not exist."""
    for number in count(2):
        files = folder / f"{name}.mp4", folder / f"{name}.jsonl"
        if not any(file.exists() for file in files):
            break
        name = f"{name.partition('_')[0]}_{number}"
    return files
