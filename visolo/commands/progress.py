"""What a run shows on standard error, while it works and when it is done."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from visolo_runtime.run_summary import RunSummary
from visolo_runtime.session.loading import Model
from visolo_runtime.sources.clip import Clip

_WARNINGS_SHOWN = 5
_REPORTS_SHOWN = 50


def bar_with_fps(console: Console) -> Progress:
    """A bar with a count, frames a second (the task's field ``fps``) and the time that is left; it
    disappears at the end, and is not there at all where the console is no terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[fps]:.1f} FPS"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


class RunProgress:
    """A bar over the frames of all clips; a plain count where their number is not known.

    Args:
        clips: that are run.
        max_frames: of each clip; None means all.
        notes: sentences to show first, beside those of the clips.
    """

    def __init__(
        self, clips: list[Clip], max_frames: int | None, notes: Iterable[str] = ()
    ) -> None:
        lengths = [
            clip.length if max_frames is None else _capped(clip, max_frames) for clip in clips
        ]
        known_lengths = [length for length in lengths if length is not None]
        self._console = Console(stderr=True, highlight=False)
        self._progress = bar_with_fps(self._console)
        total = sum(known_lengths) if len(known_lengths) == len(lengths) else None
        self._task = self._progress.add_task(clips[0].name, total=total, fps=0.0)
        self._warnings = self._reports = 0
        self._notes = [*notes, *(f"{clip.name}: {note}" for clip in clips for note in clip.notes)]

    def __enter__(self) -> RunProgress:
        for note in self._notes:
            self._say(f"visolo: {note}")
        with suppress(OSError):
            self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(OSError):
            self._progress.stop()
        if (hidden := self._warnings - _WARNINGS_SHOWN) > 0:
            self._say(f"visolo: {hidden} more frames were skipped")
        if (hidden := self._reports - _REPORTS_SHOWN) > 0:
            self._say(f"visolo: {hidden} more reports were not shown")

    def advance(self, clip: Clip, position: int, summary: RunSummary) -> None:
        """A frame is done."""
        fps = summary.frames / summary.step_seconds if summary.step_seconds else 0.0
        with suppress(OSError):
            self._progress.update(self._task, advance=1, description=clip.name, fps=fps)

    def warn(self, sentence: str) -> None:
        """A frame was skipped; the first few are reported one by one."""
        self._warnings += 1
        if self._warnings <= _WARNINGS_SHOWN:
            self._say(f"visolo: {sentence}")

    def report(self, sentence: str) -> None:
        """Something else happened: a gap, a cut, a clip or an output that failed."""
        self._reports += 1
        if self._reports <= _REPORTS_SHOWN:
            self._say(f"visolo: {sentence}")

    def summarise(self, summary: RunSummary, model: Model) -> None:
        """The run in two lines, and one for each clip that had gaps and each failure."""
        step_ms = 1e3 * summary.step_seconds / max(1, summary.frames)
        dropped = sum(counts.dropped for counts in summary.streams)
        lines = [
            f"{summary.frames} frames, {summary.tracks} tracks, {summary.instances} instances"
            + (f", {summary.skipped} frames skipped" if summary.skipped else "")
            + (f", {dropped} frames dropped" if dropped else "")
            + (", interrupted" if summary.interrupted else ""),
            f"{summary.fps:.1f} FPS overall, {step_ms:.1f} ms per step, "
            + model.engines.description,
        ]
        lines += [f"passed over {each}" for each in model.passed_over if "has no" not in each]
        lines += [
            f"{counts.name}: {counts.gap_seconds:.1f} s without frames"
            for counts in summary.streams
            if counts.gap_seconds
        ]
        lines += [f"failed: {each.name}: {each.reason}" for each in summary.failed]
        lines += [f"failed: {each.reason}" for each in summary.failed_outputs]
        for line in lines:
            self._say(line)

    def _say(self, line: str) -> None:
        # A terminal may be closed, and the reader of a pipe gone: no reason to end the work.
        with suppress(OSError):
            self._console.print(line, markup=False, soft_wrap=True)


def _capped(clip: Clip, max_frames: int) -> int | None:
    if clip.length is None:
        return max_frames if clip.live else None
    return min(clip.length, max_frames)
