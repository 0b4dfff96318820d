"""Running a model over the clips of a source and passing the results to sinks."""

from __future__ import annotations

import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from visolo_core.errors import VisoloError
from visolo_runtime.session.loading import Model
from visolo_runtime.session.session import Session
from visolo_runtime.session.stream import STAGES
from visolo_runtime.session.streams import Streams
from visolo_runtime.video.feed import Feed, Policy, Ready
from visolo_runtime.video.frames import Frame, Picture
from visolo_runtime.video.sinks import Sink
from visolo_runtime.video.sources import Clip, Skipped

_POLL_S = 0.1  # how often a wait checks for an interrupt


@dataclass
class StreamCounts:
    """What a run did with one clip."""

    name: str
    frames: int = 0
    """frames that went through the network"""
    dropped: int = 0
    """frames of a live source that arrived too fast"""
    instances: int = 0
    tracks: int = 0
    latency_seconds: float = 0.0
    """from a frame's arrival to its instances, summed over the frames"""
    worst_latency_seconds: float = 0.0

    def count(self, instances: int, latency_seconds: float) -> None:
        """Count a frame.

        Args:
            instances: number of instances in it.
            latency_seconds: from its arrival to its instances.
        """
        self.frames += 1
        self.instances += instances
        self.latency_seconds += latency_seconds
        self.worst_latency_seconds = max(self.worst_latency_seconds, latency_seconds)

    def as_dict(self) -> dict[str, Any]:
        """Ready for json."""
        return {
            "name": self.name,
            "frames": self.frames,
            "dropped": self.dropped,
            "instances": self.instances,
            "tracks": self.tracks,
            "latency_ms": 1e3 * self.latency_seconds / max(1, self.frames),
            "worst_latency_ms": 1e3 * self.worst_latency_seconds,
        }


@dataclass
class RunSummary:
    """What a run did."""

    clips: int = 0
    frames: int = 0
    """frames that went through the network"""
    skipped: int = 0
    """frames that could not be read"""
    instances: int = 0
    tracks: int = 0
    seconds: float = 0.0
    """from the first frame to the last, including reading and writing"""
    step_seconds: float = 0.0
    """inside ``Session.step``"""
    interrupted: bool = False
    streams: list[StreamCounts] = field(default_factory=list)
    """one per clip"""
    stage_seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))

    @property
    def fps(self) -> float:
        """Frames per second, including reading and writing."""
        return self.frames / self.seconds if self.seconds else 0.0

    def as_dict(self) -> dict[str, Any]:
        """All counts, ready for json."""
        return asdict(self) | {
            "fps": self.fps,
            "streams": [counts.as_dict() for counts in self.streams],
        }


class StopFlag:
    """A flag that the first Ctrl-C sets; the second one is not caught."""

    def __init__(self) -> None:
        self.is_set = False

    @contextmanager
    def on_interrupt(self) -> Iterator[None]:
        """Let SIGINT and SIGTERM set the flag instead of ending the program."""
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread can handle signals
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
        """Run a frame of every clip that has one, all together, until all clips are over."""
        try:
            self._begin_clips()
            while self._playing:
                self._step(self._take())
                self._end_clips()
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
            feed = Feed(clip, policy, self._bell, resize_ahead)
            counts = StreamCounts(clip.name)
            self._summary.streams.append(counts)
            self._playing[stream] = _Playing(clip, feed, counts)

    def _take(self) -> dict[int, Ready]:
        """The next frame of every clip that has one."""
        with self._bell:
            while self._must_wait() and not self._interrupted.is_set:
                self._bell.wait(_POLL_S)
        if self._interrupted.is_set:
            return {}
        frames = {stream: each.feed.take(timeout=0) for stream, each in self._playing.items()}
        return {stream: ready for stream, ready in frames.items() if ready is not None}

    def _must_wait(self) -> bool:
        """Wait for every file, and for live clips only if no file is playing."""
        files = [each.feed.waiting for each in self._playing.values() if not each.clip.live]
        return any(files) if files else all(each.feed.waiting for each in self._playing.values())

    def _step(self, ready_frames: dict[int, Ready]) -> None:
        frames: dict[int, Frame] = {}
        pictures: dict[int, Picture] = {}
        for stream, ready in ready_frames.items():
            playing, session = self._playing[stream], self._streams.sessions[stream]
            for _ in range(ready.dropped):
                session.skip()
            playing.counts.dropped += ready.dropped
            if isinstance(ready.frame, Skipped):
                self._skip(playing, session, ready.frame)
            else:
                frames[stream] = ready.resized or ready.frame
                pictures[stream] = ready.frame
        if not frames:
            return
        begin = time.perf_counter()
        instances_of = self._streams.step(frames)
        end = time.perf_counter()
        self._summary.step_seconds += end - begin
        for stream, instances in instances_of.items():
            playing, session = self._playing[stream], self._streams.sessions[stream]
            for stage, spent_ms in session.stage_ms.items():
                self._summary.stage_seconds[stage] += spent_ms / 1e3
            playing.counts.count(len(instances), end - ready_frames[stream].since)
            self._summary.frames += 1
            self._summary.instances += len(instances)
            for sink in self._sinks:
                sink.frame(playing.clip, pictures[stream], instances)
            self._progress(playing.clip, session.frames, self._summary)

    def _skip(self, playing: _Playing, session: Session, skipped: Skipped) -> None:
        self._warn(f"{playing.clip.name}: frame {session.frames} is skipped, {skipped.reason}")
        for sink in self._sinks:
            sink.skipped(playing.clip, session.frames, skipped)
        session.skip()
        self._summary.skipped += 1
        self._progress(playing.clip, session.frames, self._summary)

    def _end_clips(self) -> None:
        for stream, playing in list(self._playing.items()):
            session = self._streams.sessions[stream]
            full = session.frames == self._options.max_frames
            if not (self._interrupted.is_set or full or playing.feed.over):
                continue
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
