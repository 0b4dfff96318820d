"""The sinks of a run, each of which stands for itself: one that fails ends alone."""

from __future__ import annotations

from collections.abc import Callable

from visolo_core.instances import Instances
from visolo_core.results import Track
from visolo_runtime.sinks.failures import Failure, failure_to_write
from visolo_runtime.sinks.sink import PartFailed, Sink
from visolo_runtime.sources.clip import Clip, Skipped, SourceFrame


class Delivery(Sink):
    """Passes everything on to the sinks. One that cannot write is reported, discarded and left out.

    Args:
        sinks: of the run.
        report: called with a sentence for each that fails.
    """

    def __init__(self, sinks: list[Sink], report: Callable[[str], None]) -> None:
        self._sinks, self._report = list(sinks), report
        self._asked_for = len(sinks)
        self.failures: list[Failure] = []
        self.reader_left = False
        """Whether the reader of standard output has gone, as ``head`` does."""

    @property
    def is_over(self) -> bool:
        """Whether there is nobody left to work for."""
        return self.reader_left or (self._asked_for > 0 and not self._sinks)

    def begin(self, clip: Clip) -> None:
        self._each(lambda sink: sink.begin(clip))

    def frame(self, clip: Clip, frame: SourceFrame, instances: Instances) -> None:
        self._each(lambda sink: sink.frame(clip, frame, instances))

    def skipped(self, clip: Clip, position: int, skipped: Skipped) -> None:
        self._each(lambda sink: sink.skipped(clip, position, skipped))

    def failed(self, clip: Clip, reason: str) -> None:
        self._each(lambda sink: sink.failed(clip, reason))

    def end(self, clip: Clip, tracks: list[Track]) -> None:
        self._each(lambda sink: sink.end(clip, tracks))

    def commit(self) -> None:
        self._each(lambda sink: sink.commit())

    def discard(self) -> None:
        while self._sinks:
            _discard(self._sinks.pop())

    def _each(self, call: Callable[[Sink], None]) -> None:
        for sink in list(self._sinks):
            try:
                call(sink)
            except Exception as error:
                self._fail(sink, error)

    def _fail(self, sink: Sink, error: Exception) -> None:
        failure = failure_to_write(sink.shown, error)
        if not isinstance(error, PartFailed):
            self._sinks.remove(sink)
            _discard(sink)
        if sink.ends_run and isinstance(error, BrokenPipeError):
            self.reader_left = True
            return
        self.failures.append(failure)
        self._report(failure.reason)


def _discard(sink: Sink) -> None:
    try:
        sink.discard()
    except Exception as error:
        failure_to_write(sink.shown, error)  # raises what is another error
