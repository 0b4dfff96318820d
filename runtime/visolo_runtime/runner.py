"""Runs a model over the clips of a source and hands everything to the sinks."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from visolo_core.errors import VisoloError
from visolo_runtime.model import Model
from visolo_runtime.session import STAGES, Session
from visolo_runtime.sinks import Sink
from visolo_runtime.sources import Clip, Skipped


@dataclass
class RunSummary:
    """What a run did."""

    clips: int = 0
    frames: int = 0
    """frames that the network saw"""
    skipped: int = 0
    """frames that could not be read"""
    instances: int = 0
    tracks: int = 0
    seconds: float = 0.0
    """from the first frame to the last, reading and writing included"""
    step_seconds: float = 0.0
    """inside ``Session.step``"""
    interrupted: bool = False
    stage_seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))

    @property
    def fps(self) -> float:
        """Frames a second, reading and writing included."""
        return self.frames / self.seconds if self.seconds else 0.0

    def as_dict(self) -> dict[str, Any]:
        """All counts, ready for json."""
        return asdict(self) | {"fps": self.fps}


class StopFlag:
    """Set by the first Ctrl-C; the second one is not caught."""

    def __init__(self) -> None:
        self.is_set = False

    @contextmanager
    def on_interrupt(self) -> Iterator[None]:
        """Let SIGINT and SIGTERM set the flag instead of ending the program."""
        if threading.current_thread() is not threading.main_thread():
            yield  # signals belong to the main thread
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def stop(number: int, frame: object) -> None:
            self.is_set = True
            for each, handler in before.items():
                signal.signal(each, handler)

        for number in before:
            signal.signal(number, stop)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@dataclass(frozen=True)
class RunOptions:
    """What of the source is run, and how."""

    output_size: tuple[int, int] | None = None
    """Height and width of the masks; None takes the source's."""
    max_frames: int | None = None
    """Stop each clip after so many frames."""
    record: bool = False
    """Keep all masks for video-level results."""


def run(
    model: Model,
    clips: list[Clip],
    sinks: list[Sink],
    options: RunOptions,
    progress: Callable[[Clip, int, RunSummary], None] = lambda *_: None,
    warn: Callable[[str], None] = lambda _: None,
) -> RunSummary:
    """Run all clips; sinks are committed at the end or on Ctrl-C, and discarded on an error.

    Args:
        model: engines and settings.
        clips: from ``open_source``.
        sinks: from ``open_sinks``.
        options: what is run, and how.
        progress: called after every frame with the clip, its position and the counts so far.
        warn: called with a sentence for every frame that is skipped.

    Raises:
        VisoloError: if a clip has no readable frame, or its frames change size.
    """
    summary, flag = RunSummary(), StopFlag()
    begin = time.perf_counter()
    try:
        with flag.on_interrupt():
            for clip in clips:
                size = options.output_size or clip.size
                session = model.session(record=options.record, output_size=size)
                _run_clip(session, clip, sinks, options, summary, flag, progress, warn)
                summary.clips += 1
                if flag.is_set:
                    summary.interrupted = True
                    break
            summary.seconds = time.perf_counter() - begin
            for sink in sinks:
                sink.commit()
    except BaseException:
        for sink in sinks:
            sink.discard()
        raise
    return summary


def _run_clip(
    session: Session,
    clip: Clip,
    sinks: list[Sink],
    options: RunOptions,
    summary: RunSummary,
    flag: StopFlag,
    progress: Callable[[Clip, int, RunSummary], None],
    warn: Callable[[str], None],
) -> None:
    for sink in sinks:
        sink.begin(clip)
    before = summary.frames
    for frame in clip.frames():
        if isinstance(frame, Skipped):
            warn(f"{clip.name}: frame {session.frames} is skipped, {frame.reason}")
            for sink in sinks:
                sink.skipped(clip, session.frames, frame)
            session.skip()
            summary.skipped += 1
        else:
            start = time.perf_counter()
            instances = session.step(frame)
            summary.step_seconds += time.perf_counter() - start
            for stage, spent_ms in session.stage_ms.items():
                summary.stage_seconds[stage] += spent_ms / 1e3
            summary.frames += 1
            summary.instances += len(instances)
            for sink in sinks:
                sink.frame(clip, frame, instances)
        progress(clip, session.frames, summary)
        if flag.is_set or session.frames == options.max_frames:
            break
    if summary.frames == before and not flag.is_set:
        raise VisoloError(f"'{clip.name}' has no frame that can be read")
    tracks = session.finish() if options.record else []
    summary.tracks += session.tracks_begun
    for sink in sinks:
        sink.end(clip, tracks)
