"""The outputs of one video while it runs, and their commit when it is over."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from visolo_core.categories import LabelSet
from visolo_core.instances import Instances
from visolo_core.results import Track
from visolo_runtime.bulk.folder import BulkFolder
from visolo_runtime.bulk.manifest import Row
from visolo_runtime.bulk.plan import BulkVideo, Job
from visolo_runtime.sinks.annotated_video import AnnotatedVideo
from visolo_runtime.sinks.failures import failure_to_write
from visolo_runtime.sinks.frame_lines import FrameLinesFile
from visolo_runtime.sinks.results_file import ResultsFile
from visolo_runtime.sinks.sink import FileSink, Sink
from visolo_runtime.sources.clip import Clip, Skipped, SourceFrame


@dataclass
class Counts:
    """What a video has had so far."""

    frames: int = 0
    skipped: int = 0
    instances: int = 0
    tracks: set[int] = field(default_factory=set)
    seconds: float = 0.0
    """before it was resumed"""
    size: tuple[int, int] | None = None
    """height and width of its frames"""

    def as_dict(self) -> dict[str, Any]:
        """Ready for json."""
        return {**vars(self), "tracks": sorted(self.tracks)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Counts:
        """What :meth:`as_dict` gave."""
        size = values["size"]
        return cls(**{**values, "tracks": set(values["tracks"]), "size": size and tuple(size)})


class VideoOutputs(Sink):
    """Receives one video and commits what came of it.

    An output that cannot be written ends all of them: then there is no row, and the video is not
    done.

    Args:
        job: what is asked for.
        video: that is run.
        labels: of the model.
        folder: where the outputs go.
        attempt: how often it has been tried.
        engines: that run it, in words.
    """

    def __init__(
        self,
        job: Job,
        video: BulkVideo,
        labels: LabelSet,
        folder: BulkFolder,
        attempt: int,
        engines: str,
    ) -> None:
        self.video = video
        self.counts = Counts()
        self.pieces: list[Path] = []
        """Complete parts of the lines, from before a cut."""
        self.unwritten = ""
        """Why an output cannot be written."""
        self.row: Row | None = None
        """When the video is over and its outputs are committed."""
        self._job, self._labels, self._folder = job, labels, folder
        self._attempt, self._engines = attempt, engines
        self._stack = ExitStack()
        self._sinks: dict[str, FileSink] = {}
        self._work: Path | None = None
        self._begin_s = time.perf_counter()
        self._reason = ""

    @property
    def is_over(self) -> bool:
        """Whether what happened to the video is decided."""
        return self.row is not None or bool(self.unwritten)

    # --------------------------------------------------------------------------- as a sink

    def begin(self, clip: Clip) -> None:
        self._begin_s = time.perf_counter()
        with self._writing():
            self._work = self._stack.enter_context(self._folder.work(self.video.key))
            for kind, make in self._wanted():
                self._sinks[kind] = make(self._work / kind)
            for sink in self._sinks.values():
                sink.begin(clip)

    def frame(self, clip: Clip, frame: SourceFrame, instances: Instances) -> None:
        height, width = frame.picture.shape[:2]
        self.counts.size = height, width
        self.counts.frames += 1
        self.counts.instances += len(instances)
        self.counts.tracks.update(map(int, instances.tracker_id))
        with self._writing():
            for sink in self._sinks.values():
                sink.frame(clip, frame, instances)

    def skipped(self, clip: Clip, position: int, skipped: Skipped) -> None:
        self.counts.skipped += 1
        with self._writing():
            for sink in self._sinks.values():
                sink.skipped(clip, position, skipped)

    def failed(self, clip: Clip, reason: str) -> None:
        self._reason = reason
        with self._writing():
            for sink in self._sinks.values():
                sink.failed(clip, reason)

    def end(self, clip: Clip, tracks: list[Track]) -> None:
        with self._writing():
            for sink in self._sinks.values():
                sink.end(clip, tracks)
            self._commit()
        self.discard()

    def discard(self) -> None:
        for sink in self._sinks.values():
            sink.discard()
        self._sinks.clear()
        self._stack.close()

    # ------------------------------------------------------------------------------ the lines

    def cut_lines(self, place: Path) -> None:
        """Keep the lines so far as a piece of their own, and write those to come into another.

        Args:
            place: what the piece becomes; its folder exists.

        Raises:
            VisoloError: if it cannot be written.
            OSError: likewise.
        """
        if "frames" in self._sinks and self._work is not None:
            self._sinks["frames"].commit()
            (self._work / "frames").replace(place)
            self.pieces.append(place)
            self._sinks["frames"] = FrameLinesFile(self._work / "frames")

    @property
    def seconds(self) -> float:
        """Since the video began, with those from before a cut."""
        return self.counts.seconds + time.perf_counter() - self._begin_s

    # --------------------------------------------------------------------------------- inside

    def _wanted(self) -> list[tuple[str, Callable[[Path], FileSink]]]:
        settings = self._job.settings
        wanted: list[tuple[str, Callable[[Path], FileSink]]] = []
        if settings.results == "ytvis":
            wanted.append(("results", lambda path: ResultsFile(path, self._labels)))
        if settings.frames:
            wanted.append(("frames", FrameLinesFile))
        if settings.video:
            wanted.append(("videos", AnnotatedVideo))
        return wanted

    def _commit(self) -> None:
        assert self._work is not None
        names = []
        if self.counts.frames:  # as of `visolo run`, of which nothing is written otherwise
            for kind, sink in self._sinks.items():
                sink.commit()
                file = self._work / kind
                if kind == "frames" and self.pieces:
                    file = _joined([*self.pieces, file], self._work / "joined")
                if file.exists():
                    names.append(self._folder.take(file, kind, self.video))
        row = self._described("failed" if self._reason else "done", self._reason, tuple(names))
        self._folder.commit(row)
        self.row = row

    def set_aside(self, reason: str) -> None:
        """Commit a row of a video that was not run to its end and has no outputs."""
        with self._writing():
            row = self._described("failed", reason, ())
            self._folder.commit(row)
            self.row = row

    def _described(self, status: Any, reason: str, outputs: tuple[str, ...]) -> Row:
        return Row(
            self.video.key, self.video.shown, self.video.content, self._job.model_hash,
            self._job.settings.as_text(), status, reason, self.counts.frames, self.counts.skipped,
            self.counts.instances, len(self.counts.tracks), round(self.seconds, 3), self._attempt,
            self._engines, outputs, self._job.run,
        )  # fmt: skip

    def _writing(self) -> _Writing:
        return _Writing(self)

    def give_up(self, error: Exception) -> None:
        """An output cannot be written."""
        shown = str(self._folder.root / self.video.stem)
        failure = failure_to_write(shown, error)
        work = str(self._work) if self._work else ""
        self.unwritten = self.unwritten or (
            failure.reason.replace(f"{work}/", f"{self._folder.root}/") if work else failure.reason
        )
        self.discard()


class _Writing:
    """A block that writes: does nothing to a video that was given up, and notes errors."""

    def __init__(self, outputs: VideoOutputs) -> None:
        self._outputs = outputs

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> bool:
        if not isinstance(error, Exception):
            return False
        self._outputs.give_up(error)
        return True


def _joined(pieces: list[Path], whole: Path) -> Path:
    with whole.open("wb") as file:
        for piece in pieces:
            with piece.open("rb") as content:
                shutil.copyfileobj(content, file)
    return whole
