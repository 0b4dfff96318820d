"""A file for each clip: of a data set in a folder, of a stream beside each other.

Each file takes its name when its clip is over, and stands for itself: one that cannot be written
is no reason to lose another.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from visolo_core.errors import VisoloError
from visolo_core.files import is_written_through, reason
from visolo_core.instances import Instances
from visolo_core.results import Track
from visolo_runtime.sinks.failures import failure_to_write
from visolo_runtime.sinks.sink import FileSink, PartFailed, Sink
from visolo_runtime.sources.clip import Clip, Skipped, SourceFrame


class FileOfEachClip(Sink):
    """A sink that makes another sink for each clip.

    Args:
        shown: what the user calls it.
        make: opens the sink of a path.
    """

    def __init__(self, shown: Path, make: Callable[[Path], FileSink]) -> None:
        self.shown, self._make = str(shown), make
        self._sinks: dict[int, FileSink] = {}

    def path_of(self, clip: Clip) -> Path:
        """Where the file of a clip that begins will be.

        Raises:
            VisoloError: if it can have none.
        """
        raise NotImplementedError

    def begin(self, clip: Clip) -> None:
        with self._alone(clip):
            if clip.video_id not in self._sinks:
                self._sinks[clip.video_id] = self._make(self.path_of(clip))
            self._sinks[clip.video_id].begin(clip)

    def frame(self, clip: Clip, frame: SourceFrame, instances: Instances) -> None:
        if sink := self._sinks.get(clip.video_id):
            with self._alone(clip):
                sink.frame(clip, frame, instances)

    def skipped(self, clip: Clip, position: int, skipped: Skipped) -> None:
        if sink := self._sinks.get(clip.video_id):
            with self._alone(clip):
                sink.skipped(clip, position, skipped)

    def failed(self, clip: Clip, reason: str) -> None:
        if sink := self._sinks.get(clip.video_id):
            with self._alone(clip):
                sink.failed(clip, reason)

    def end(self, clip: Clip, tracks: list[Track]) -> None:
        if sink := self._sinks.get(clip.video_id):
            with self._alone(clip):
                sink.end(clip, tracks)
                sink.commit()
                del self._sinks[clip.video_id]

    def commit(self) -> None:
        FileOfEachClip.discard(self)  # of clips that did not begin

    def discard(self) -> None:
        while self._sinks:
            _, sink = self._sinks.popitem()
            sink.discard()

    def goes_on_without(self, clip: Clip) -> bool:
        """Whether there can be other files if that of this clip cannot be written."""
        return True

    @contextmanager
    def _alone(self, clip: Clip) -> Iterator[None]:
        """Discard the sink of this clip, and no other, if it cannot write."""
        try:
            yield
        except Exception as error:
            if not self.goes_on_without(clip):
                raise
            sink = self._sinks.pop(clip.video_id, None)
            failure = failure_to_write(sink.shown if sink else self.shown, error)
            if sink:
                sink.discard()
            raise PartFailed(failure.reason) from error


class ClipFiles(FileOfEachClip):
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
        super().__init__(folder, make)
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
        self._folder, self._suffix = folder, suffix

    def path_of(self, clip: Clip) -> Path:
        return clip_file(self._folder, clip, self._suffix)

    def discard(self) -> None:
        super().discard()
        if self._is_new:
            with contextlib.suppress(OSError):  # something else is in it
                self._folder.rmdir()


class PartFiles(FileOfEachClip):
    """A file for a source with one clip, and others beside it if that is cut into several:
    ``out.mp4``, ``out-2.mp4``. They replace no file.

    Args:
        path: of the first.
        first: video id of the clip.
        make: opens the sink of a path.

    Raises:
        VisoloError: if the first cannot be written.
    """

    def __init__(self, path: Path, first: int, make: Callable[[Path], FileSink]) -> None:
        super().__init__(path, make)
        self._path, self._parts = path, 1
        self._sinks[first] = make(path)  # fails now rather than after a long start

    def goes_on_without(self, clip: Clip) -> bool:
        return clip.live

    def path_of(self, clip: Clip) -> Path:
        if is_written_through(self._path):
            raise VisoloError(
                f"'{self._path}' takes one video: that of '{clip.name}' is not written"
            )
        path = self._path
        while path.exists() or path == self._path:
            self._parts += 1
            path = self._path.with_stem(f"{self._path.stem}-{self._parts}")
        return path


def clip_file(folder: Path, clip: Clip, suffix: str) -> Path:
    """The file of a clip in a folder with one for each."""
    return folder / f"{clip.video_id}{suffix}"
