"""A folder with a file for each clip."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from visolo_core.errors import VisoloError
from visolo_core.files import reason
from visolo_core.instances import Instances
from visolo_core.results import Track
from visolo_runtime.sinks.sink import FileSink, Sink
from visolo_runtime.sources.clip import Clip, Skipped, SourceFrame


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

    def frame(self, clip: Clip, frame: SourceFrame, instances: Instances) -> None:
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
