"""What a bulk run shows on standard error, while it works and when it is done."""

from __future__ import annotations

import time
from contextlib import suppress

from rich.console import Console

from visolo.commands.progress import bar_with_fps
from visolo_runtime.bulk.manifest import Row
from visolo_runtime.bulk.running import BulkListeners, BulkSummary

_LISTED = 50


class BulkProgress:
    """A bar over the videos, and a line for each that fails."""

    def __init__(self) -> None:
        self.listeners = BulkListeners(self._read, self._begun, self._row)
        self._console = Console(stderr=True, highlight=False)
        self._progress = bar_with_fps(self._console)
        self._task = self._progress.add_task("reading", total=None, fps=0.0)
        self._frames, self._begin_s = 0, time.perf_counter()

    def __enter__(self) -> BulkProgress:
        with suppress(OSError):
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._progress.stop()

    def say(self, sentence: str) -> None:
        """A line of its own."""
        with suppress(OSError):
            self._console.print(f"visolo: {sentence}", markup=False, soft_wrap=True)

    def summarise(self, summary: BulkSummary) -> None:
        """What was done, and what was not."""
        frames = sum(row.frames for row in summary.rows)
        before = f", {summary.already} of them before" if summary.already else ""
        self.say(f"{summary.done} of {summary.videos} videos are done{before}, {frames} frames")
        for row in summary.failed[:_LISTED]:
            self.say(f"failed: {row.input}: {row.reason}")
        if (hidden := len(summary.failed) - _LISTED) > 0:
            self.say(f"{hidden} more failed: the manifest lists them")
        if summary.ended:
            self.say(f"{summary.ended}; the same command does the rest")

    def _read(self, done: int, of: int) -> None:
        with suppress(OSError):
            self._progress.update(self._task, completed=done, total=of)

    def _begun(self, already: int, of: int) -> None:
        self._begin_s = time.perf_counter()
        with suppress(OSError):
            self._progress.update(self._task, description="videos", completed=already, total=of)

    def _row(self, row: Row, again: bool) -> None:
        self._frames += row.frames
        fps = self._frames / max(1e-9, time.perf_counter() - self._begin_s)
        if row.status == "failed":
            self.say(f"{row.input}: {row.reason}{' (it is tried again)' if again else ''}")
        with suppress(OSError):
            self._progress.update(self._task, advance=0 if again else 1, fps=fps)
