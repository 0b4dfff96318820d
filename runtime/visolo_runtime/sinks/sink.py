"""What a sink is: something that receives the results of a run.

A sink writes to a temporary file. ``commit`` gives the file its name, also after an interrupt, so
that the results so far are usable; ``discard`` removes it.
"""

from __future__ import annotations

from pathlib import Path

from visolo_core.files import give_name, temporary_beside
from visolo_core.instances import Instances
from visolo_core.results import Track
from visolo_runtime.sources.clip import Clip, Skipped, SourceFrame


class Sink:
    """Receives the results of a run; each method does nothing unless a subclass overrides it.

    The methods are called in the order below for each clip; several clips may be open at once.
    """

    def begin(self, clip: Clip) -> None:
        """A clip begins."""

    def frame(self, clip: Clip, frame: SourceFrame, instances: Instances) -> None:
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
