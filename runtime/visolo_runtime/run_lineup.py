"""Which clips are running: how they begin, are cut in two, fail and end."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass

from visolo_core.errors import VisoloError
from visolo_runtime.playing import Playing
from visolo_runtime.run_options import RunOptions
from visolo_runtime.run_summary import RunSummary
from visolo_runtime.session.streams import Streams
from visolo_runtime.sinks.delivery import Delivery
from visolo_runtime.sinks.failures import Failure
from visolo_runtime.sources.clip import Clip, Notice
from visolo_runtime.sources.feed import Feed, Ready
from visolo_runtime.stop_flag import StopFlag


@dataclass(frozen=True)
class Listeners:
    """What wants to know how a run is going; the functions are those of ``run``."""

    delivery: Delivery
    progress: Callable[[Clip, int, RunSummary], None]
    warn: Callable[[str], None]
    report: Callable[[str], None]


class Lineup:
    """The clips of a run, one after another in each stream.

    Args:
        streams: where they run.
        clips: in their order.
        options: of the run.
        interrupted: ends all when it is set.
        summary: receives the counts.
        listeners: receive what begins and ends.
    """

    def __init__(
        self,
        streams: Streams,
        clips: list[Clip],
        options: RunOptions,
        interrupted: StopFlag,
        summary: RunSummary,
        listeners: Listeners,
    ) -> None:
        self._streams, self._clips, self._options = streams, clips, options
        self._interrupted, self._summary, self._listeners = interrupted, summary, listeners
        self._pending = deque(clips)
        self._last_id = max((clip.video_id for clip in clips), default=0)
        self.playing: dict[int, Playing] = {}
        """By stream."""
        self.bell = threading.Condition()
        """Notified when any feed has a frame."""

    @property
    def stopping(self) -> bool:
        """Whether the run ends before its clips do."""
        return self._interrupted.is_set or self._listeners.delivery.is_over

    @property
    def held(self) -> list[int]:
        """Streams in which a clip begins or ends with what was read."""
        return [stream for stream, each in self.playing.items() if each.held is not None]

    def begin_clips(self) -> None:
        """Begin clips in the streams that have none, unless the run is stopping."""
        for stream in range(len(self._streams.sessions)):
            if stream in self.playing or not self._pending or self.stopping:
                continue
            clip = self._pending.popleft()
            policy = self._options.live if clip.live else "all"
            resize_ahead = self._streams.sessions[stream].resize_ahead
            feed = Feed(clip, policy, self.bell, resize_ahead, self._report_from(clip))
            self._begin(stream, Playing(clip, feed, self._options.max_frames))

    def _report_from(self, clip: Clip) -> Callable[[Notice], None]:
        return lambda notice: self._listeners.report(f"{clip.name}: {notice.text}")

    def begin_part(self, stream: int) -> Ready | None:
        """Let a clip of its own begin with the frame that was held, and return that frame.

        None if the clip fails there instead.
        """
        playing, session = self.playing[stream], self._streams.sessions[stream]
        try:
            held, reason = playing.take_held(session.frames)
        except VisoloError as error:
            self.fail(stream, error)
            return None
        self._last_id += 1
        part, ready = playing.next_part(self._last_id, held, session.frames)
        self._listeners.report(f"{playing.clip.name}: '{part.clip.name}' begins, {reason}")
        self._end(stream)
        self._begin(stream, part)
        return ready

    def is_over(self, stream: int) -> bool:
        playing = self.playing[stream]
        limit = playing.limit
        full = limit is not None and self._streams.sessions[stream].frames >= limit
        return self.stopping or full or playing.over

    def end_clips(self, but: Collection[int]) -> None:
        """End those that are over, but for streams with a frame under way."""
        for stream, playing in list(self.playing.items()):
            if stream in but or not self.is_over(stream):
                continue
            if playing.counts.frames or playing.part > 1 or self.stopping:
                playing.feed.close()
                self._end(stream)
            else:
                sentence = "has no frame that can be read: name another source"
                self.fail(stream, VisoloError(f"'{playing.clip.name}' {sentence}"))

    def fail(self, stream: int, error: VisoloError) -> None:
        """End a clip that cannot go on."""
        playing, reason = self.playing[stream], str(error)
        playing.feed.close()
        playing.counts.failed = reason
        if playing.counts.frames:
            reason = f"ends after {self._streams.sessions[stream].frames} frames, {reason}"
        self._note_failure(playing.clip, reason)
        self._listeners.delivery.failed(playing.clip, reason)
        self._end(stream)

    def fail_all(self, error: VisoloError) -> None:
        """No clip can go on, and none can begin."""
        for stream in list(self.playing):
            self.fail(stream, error)
        while self._pending:
            self._note_failure(self._pending.popleft(), f"is not run, {error}")

    def close(self) -> None:
        """Stop reading."""
        for playing in self.playing.values():
            playing.feed.close()

    def _begin(self, stream: int, playing: Playing) -> None:
        self.playing[stream] = playing
        self._streams.restart(stream, self._options.output_size or playing.clip.size)
        self._listeners.delivery.begin(playing.clip)
        self._summary.streams.append(playing.counts)

    def _end(self, stream: int) -> None:
        playing, session = self.playing.pop(stream), self._streams.sessions[stream]
        tracks = session.finish() if self._options.record else []
        playing.counts.tracks = session.tracks_begun
        self._summary.tracks += session.tracks_begun
        self._summary.clips += 1
        self._listeners.delivery.end(playing.clip, tracks)

    def _note_failure(self, clip: Clip, reason: str) -> None:
        self._summary.failed.append(Failure(clip.name, reason))
        # What is the only clip, and has yielded nothing, is the error of the run itself.
        if self._summary.frames or len(self._clips) > 1 or clip.live:
            self._listeners.report(f"{clip.name}: {reason}")
