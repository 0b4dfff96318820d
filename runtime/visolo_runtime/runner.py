"""Running a model over the clips of a source and passing the results to sinks."""

from __future__ import annotations

import time
from collections.abc import Callable

from visolo_core.errors import VisoloError
from visolo_runtime.run_lineup import Lineup, Listeners
from visolo_runtime.run_loop import RunLoop
from visolo_runtime.run_options import RunOptions
from visolo_runtime.run_summary import RunSummary
from visolo_runtime.session.loading import Model
from visolo_runtime.session.streams import Streams
from visolo_runtime.sinks.delivery import Delivery
from visolo_runtime.sinks.sink import Sink
from visolo_runtime.sources.clip import Clip
from visolo_runtime.stop_flag import StopFlag

__all__ = ["RunOptions", "run"]

_FAILED, _PIPE_CLOSED = 1, 141  # the latter is what a shell reports of a program that SIGPIPE ended


def run(
    model: Model,
    clips: list[Clip],
    sinks: list[Sink],
    options: RunOptions,
    progress: Callable[[Clip, int, RunSummary], None] = lambda *_: None,
    warn: Callable[[str], None] = lambda _: None,
    report: Callable[[str], None] = lambda _: None,
) -> RunSummary:
    """Run all clips and pass every frame to the sinks.

    A clip that fails ends there, with what its earlier frames yielded, and the others go on; a sink
    that fails is discarded, and the others go on. Both are in the summary. Sinks are committed when
    all clips are over, no sink is left, or after the first Ctrl-C with the results so far. They are
    discarded on any exception, including that of a second Ctrl-C.

    Args:
        model: engines and settings.
        clips: from ``open_source``.
        sinks: from ``open_sinks``.
        options: how much to run, and how.
        progress: called after every frame with the clip, its position and the counts so far.
        warn: called with a sentence for every skipped frame.
        report: called with a sentence for everything else: gaps, cuts, clips and outputs that
            failed.

    Raises:
        VisoloError: if clips failed and there is no frame of any, or there is not enough memory for
            the streams.
    """
    interrupted, count = StopFlag(), max(1, min(options.streams, len(clips)))
    delivery = Delivery(sinks, report)
    summary, begin = RunSummary(failed_outputs=delivery.failures), time.perf_counter()
    sizes = [None] * count  # known when a clip begins
    try:
        # Until all is committed: a signal that comes then must not undo what is done.
        with interrupted.on_interrupt():
            with Streams(model, sizes, options.record) as streams:
                listeners = Listeners(delivery, progress, warn, report)
                lineup = Lineup(streams, clips, options, interrupted, summary, listeners)
                RunLoop(streams, lineup, summary, listeners).play()
            _check_frames(summary, clips)
            summary.interrupted = interrupted.is_set
            summary.seconds = time.perf_counter() - begin
            delivery.commit()
    except BaseException:
        delivery.discard()
        raise
    if summary.interrupted:
        summary.exit_status = interrupted.exit_status
    elif delivery.reader_left:
        summary.exit_status = _PIPE_CLOSED
    elif summary.failed or summary.failed_outputs:
        summary.exit_status = _FAILED
    return summary


def _check_frames(summary: RunSummary, clips: list[Clip]) -> None:
    """Refuse a source that yields nothing at all; one that is live may have had nothing to show.

    Raises:
        VisoloError: if clips failed and there is no frame of any.
    """
    if summary.frames or not summary.failed or any(clip.live for clip in clips):
        return
    first = summary.failed[0].reason
    if len(clips) > 1:
        first = f"none of {len(clips)} videos can be run, the first because {first}"
    raise VisoloError(first)
