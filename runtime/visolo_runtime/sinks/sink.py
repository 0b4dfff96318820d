"""What a sink is: something that receives the results of a run.

A sink writes to a temporary file. ``commit`` gives the file its name, also after an interrupt, so
that the results so far are usable; ``discard`` removes it.
"""

from __future__ import annotations

from pathlib import Path

from visolo_core.errors import VisoloError
from visolo_core.files import give_name, remove_temporary, temporary_beside
from visolo_core.instances import Instances
from visolo_core.results import Track
from visolo_runtime.sources.clip import Clip, Skipped, SourceFrame


class PartFailed(VisoloError):
    """A sink of several files cannot write one of them, which it has discarded; it goes on."""


class Sink:
    """Receives the results of a run; each method does nothing unless a subclass overrides it.

    The methods are called in the order below for each clip; several clips may be open at once. A
    sink that cannot write raises ``VisoloError``, ``OSError`` or an error of FFmpeg, and is
    discarded; after ``PartFailed`` it goes on.
    """

    shown = "an output"
    """What the user calls it: a path."""
    ends_run = False
    """Whether the run ends quietly when the reader of this output leaves."""

    def begin(self, clip: Clip) -> None:
        """A clip begins."""

    def frame(self, clip: Clip, frame: SourceFrame, instances: Instances) -> None:
        """A frame has its instances."""

    def skipped(self, clip: Clip, position: int, skipped: Skipped) -> None:
        """The frame at ``position`` could not be read."""

    def failed(self, clip: Clip, reason: str) -> None:
        """The clip cannot go on; ``end`` follows, with what there is of it."""

    def end(self, clip: Clip, tracks: list[Track]) -> None:
        """A clip is over."""

    def commit(self) -> None:
        """Finish the file and give it its name."""

    def discard(self) -> None:
        """Remove everything that has not been committed."""


class FileSink(Sink):
    """Writes one file."""

    def __init__(self, path: Path) -> None:
        self.shown = str(path)
        self._path = path
        self._temporary = temporary_beside(path)

    def commit(self) -> None:
        give_name(self._temporary, self._path)

    def discard(self) -> None:
        remove_temporary(self._temporary)
