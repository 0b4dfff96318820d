"""Running a model over the clips of a source and passing the results to sinks."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from visolo_core.errors import VisoloError
from visolo_core.instances import Instances
from visolo_runtime.run_summary import RunSummary, StreamCounts
from visolo_runtime.session.loading import Model
from visolo_runtime.session.streams import Streams, StreamsStep
from visolo_runtime.sinks.sink import Sink
from visolo_runtime.sources.clip import Clip, Notice, Skipped
from visolo_runtime.sources.feed import Feed, Policy, Ready
from visolo_runtime.stop_flag import StopFlag
from visolo_runtime.video.frames import Frame

_POLL_S = 0.1  # how often a wait checks for an interrupt


@dataclass(frozen=True)
class RunOptions:
    """How much of the source to run, and how."""

    output_size: tuple[int, int] | None = None
    """Height and width of the masks; None means the source's."""
    max_frames: int | None = None
    """Stop each clip after this many frames; None runs it to its end."""
    record: bool = False
    """Keep all masks for video-level results."""
    streams: int = 1
    """Clips to run side by side."""
    live: Policy = "latest"
    """Which frames of a live source to run if it is faster than the engines."""


def run(
    model: Model,
    clips: list[Clip],
    sinks: list[Sink],
    options: RunOptions,
    progress: Callable[[Clip, int, RunSummary], None] = lambda *_: None,
    warn: Callable[[str], None] = lambda _: None,
) -> RunSummary:
    """Run all clips and pass every frame to the sinks.

    Sinks are committed when all clips are over, or after the first Ctrl-C with the results so far.
    They are discarded on any exception, including that of a second Ctrl-C.

    Args:
        model: engines and settings.
        clips: from ``open_source``.
        sinks: from ``open_sinks``.
        options: how much to run, and how.
        progress: called after every frame with the clip, its position and the counts so far.
        warn: called with a sentence for every skipped frame.

    Raises:
        VisoloError: if a clip cannot be opened or has no readable frame, its frames change size,
            there is not enough memory for the streams, or a sink cannot write.
    """
    interrupted, count = StopFlag(), max(1, min(options.streams, len(clips)))
    summary, begin = RunSummary(), time.perf_counter()
    sizes = [None] * count  # known when a clip begins
    try:
        with interrupted.on_interrupt(), Streams(model, sizes, options.record) as streams:
            _Run(streams, clips, sinks, options, interrupted, summary, progress, warn).play()
        summary.interrupted = interrupted.is_set
        summary.seconds = time.perf_counter() - begin
        for sink in sinks:
            sink.commit()
    except BaseException:
        for sink in sinks:
            sink.discard()
        raise
    return summary


@dataclass
class _Playing:
    """A clip that is running in a stream."""

    clip: Clip
    feed: Feed
    counts: StreamCounts


@dataclass(frozen=True)
class _Begun:
    """Frames that were begun together, by stream."""

    step: StreamsStep
    ready: dict[int, Ready]
    skipped: dict[int, tuple[int, Skipped]]
    """those that cannot be read, and their numbers in the video"""


class _Run:
    """Plays the clips in the streams, one after another in each; other arguments as for ``run``.

    Args:
        interrupted: checked after every frame.
        summary: receives the counts.
    """

    def __init__(
        self,
        streams: Streams,
        clips: list[Clip],
        sinks: list[Sink],
        options: RunOptions,
        interrupted: StopFlag,
        summary: RunSummary,
        progress: Callable[[Clip, int, RunSummary], None],
        warn: Callable[[str], None],
    ) -> None:
        self._streams, self._sinks = streams, sinks
        self._options, self._interrupted, self._summary = options, interrupted, summary
        self._progress, self._warn = progress, warn
        self._pending = deque(clips)
        self._playing: dict[int, _Playing] = {}
        self._bell = threading.Condition()  # notified when any feed has a frame

    def play(self) -> None:
        """Run a frame of every clip that has one, all together, until all clips are over.

        On a device the next frames are begun before these are followed, if they are at hand: no
        frame waits for another to be read.
        """
        ahead: _Begun | None = None
        try:
            self._begin_clips()
            while self._playing:
                begun, ahead = ahead or self._begin(self._take()), None
                self._report_skipped(begun)
                with self._timed():
                    begun.step.compute()
                try:
                    if ready := self._take_ahead():
                        ahead = self._begin(ready)
                finally:  # whatever is wrong with the next frames, these are known
                    self._follow(begun)
                self._end_clips(but=ahead.ready if ahead else ())
                if not self._interrupted.is_set:
                    self._begin_clips()
        finally:
            for playing in self._playing.values():
                playing.feed.close()

    def _begin_clips(self) -> None:
        for stream in range(len(self._streams.sessions)):
            if stream in self._playing or not self._pending:
                continue
            clip = self._pending.popleft()
            self._streams.restart(stream, self._options.output_size or clip.size)
            for sink in self._sinks:
                sink.begin(clip)
            policy = self._options.live if clip.live else "all"
            resize_ahead = self._streams.sessions[stream].resize_ahead
            feed = Feed(clip, policy, self._bell, resize_ahead, self._report_from(clip))
            counts = StreamCounts(clip.name)
            self._summary.streams.append(counts)
            self._playing[stream] = _Playing(clip, feed, counts)

    def _report_from(self, clip: Clip) -> Callable[[Notice], None]:
        return lambda notice: self._warn(f"{clip.name}: {notice.text}")

    def _take(self) -> dict[int, Ready]:
        """The next frame of every clip that has one."""
        with self._bell:
            while self._must_wait() and not self._interrupted.is_set:
                self._bell.wait(_POLL_S)
        return {} if self._interrupted.is_set else self._take_now()

    def _take_ahead(self) -> dict[int, Ready]:
        """The same without waiting: empty unless a device could begin them at once."""
        if not self._streams.overlap or any(map(self._is_over, self._playing)):
            return {}
        return {} if self._must_wait() else self._take_now()

    def _take_now(self) -> dict[int, Ready]:
        frames = {stream: each.feed.take(timeout=0) for stream, each in self._playing.items()}
        return {stream: ready for stream, ready in frames.items() if ready is not None}

    def _must_wait(self) -> bool:
        """Wait for every file, and for live clips only if no file is playing."""
        files = [each.feed.waiting for each in self._playing.values() if not each.clip.live]
        return any(files) if files else all(each.feed.waiting for each in self._playing.values())

    def _begin(self, ready: dict[int, Ready]) -> _Begun:
        frames: dict[int, Frame] = {}
        skipped: dict[int, tuple[int, Skipped]] = {}
        for stream, each in ready.items():
            session = self._streams.sessions[stream]
            for _ in range(each.dropped):
                session.skip()
            self._playing[stream].counts.dropped += each.dropped
            if isinstance(each.frame, Skipped):
                skipped[stream] = session.frames, each.frame
                session.skip()
            else:
                frames[stream] = each.resized or each.frame.picture
        with self._timed():
            return _Begun(self._streams.begin(frames), ready, skipped)

    def _report_skipped(self, begun: _Begun) -> None:
        for stream, (number, skipped) in begun.skipped.items():
            clip = self._playing[stream].clip
            self._warn(f"{clip.name}: frame {number} is skipped, {skipped.reason}")
            for sink in self._sinks:
                sink.skipped(clip, number, skipped)
            self._summary.skipped += 1
            self._progress(clip, number + 1, self._summary)

    def _follow(self, begun: _Begun) -> None:
        with self._timed():
            instances_of = begun.step.follow()
        end = time.perf_counter()
        for stream, instances in instances_of.items():
            self._pass_on(stream, begun.ready[stream], instances, end)

    def _pass_on(self, stream: int, ready: Ready, instances: Instances, end: float) -> None:
        assert not isinstance(ready.frame, Skipped)
        playing = self._playing[stream]
        for stage, spent_ms in self._streams.sessions[stream].stage_ms.items():
            self._summary.stage_seconds[stage] += spent_ms / 1e3
        playing.counts.count(len(instances), end - ready.since)
        self._summary.frames += 1
        self._summary.instances += len(instances)
        for sink in self._sinks:
            sink.frame(playing.clip, ready.frame, instances)
        self._progress(playing.clip, instances.frame + 1, self._summary)

    @contextmanager
    def _timed(self) -> Iterator[None]:
        begin = time.perf_counter()
        try:
            yield
        finally:
            self._summary.step_seconds += time.perf_counter() - begin

    def _is_over(self, stream: int) -> bool:
        full = self._streams.sessions[stream].frames == self._options.max_frames
        return self._interrupted.is_set or full or self._playing[stream].feed.over

    def _end_clips(self, but: Collection[int]) -> None:
        """End those that are over, but for streams with a frame under way."""
        for stream, playing in list(self._playing.items()):
            if stream in but or not self._is_over(stream):
                continue
            session = self._streams.sessions[stream]
            playing.feed.close()
            if not playing.counts.frames and not self._interrupted.is_set:
                raise VisoloError(
                    f"'{playing.clip.name}' has no frame that can be read: name another source"
                )
            tracks = session.finish() if self._options.record else []
            playing.counts.tracks = session.tracks_begun
            self._summary.tracks += session.tracks_begun
            self._summary.clips += 1
            for sink in self._sinks:
                sink.end(playing.clip, tracks)
            del self._playing[stream]
