"""The loop of a run: a frame of every clip that has one, all together."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from visolo_core.errors import VisoloError
from visolo_core.instances import Instances
from visolo_runtime.playing import Playing
from visolo_runtime.run_lineup import Lineup, Listeners
from visolo_runtime.run_summary import RunSummary
from visolo_runtime.session.streams import Streams, StreamsStep
from visolo_runtime.sources.clip import Notice, Skipped
from visolo_runtime.sources.feed import Ready
from visolo_runtime.video.frames import Frame

_POLL_S = 0.1  # how often a wait checks for an interrupt
_PATIENCE_S = 1.0  # how long others wait for a file whose pipe or disk is slow


@dataclass(frozen=True)
class _Begun:
    """Frames that were begun together, by stream."""

    step: StreamsStep
    ready: dict[int, Ready]
    skipped: dict[int, tuple[int, Skipped]]
    """those that cannot be read, and their numbers in the video"""


class RunLoop:
    """Runs the clips of a lineup.

    Args:
        streams: where they run.
        lineup: says which clips there are.
        summary: receives the counts.
        listeners: receive the results.
    """

    def __init__(
        self, streams: Streams, lineup: Lineup, summary: RunSummary, listeners: Listeners
    ) -> None:
        self._streams, self._lineup = streams, lineup
        self._summary, self._listeners = summary, listeners

    def play(self) -> None:
        """Run all clips to their ends.

        Raises:
            VisoloError: if the engines fail before there is any result.
        """
        try:
            self._play()
        except VisoloError as error:  # of the engines, which all clips share
            if not self._summary.frames:
                raise
            self._lineup.fail_all(error)
        finally:
            self._lineup.close()

    def _play(self) -> None:
        """Run a frame of every clip that has one, all together, until all clips are over.

        On a device the next frames are begun before these are followed, if they are at hand: no
        frame waits for another to be read.
        """
        ahead: _Begun | None = None
        self._lineup.begin_clips()
        while self._lineup.playing:
            begun, ahead = ahead or self._begin(self._take()), None
            self._report_skipped(begun)
            with self._timed():
                begun.step.compute()
            try:
                if ready := self._take_ahead():
                    ahead = self._begin(ready)
            finally:  # whatever is wrong with the next frames, these are known
                self._follow(begun)
            self._lineup.end_clips(but=ahead.ready if ahead else ())
            self._lineup.begin_clips()

    # ------------------------------------------------------------------------- reading frames

    def _take(self) -> dict[int, Ready]:
        """The next frame of every clip that has one, when no frame is under way."""
        patient_until = time.monotonic() + _PATIENCE_S
        with self._lineup.bell:
            while self._must_wait() and not self._lineup.stopping:
                if time.monotonic() > patient_until:
                    for each in self._lineup.playing.values():
                        each.late = each.waiting
                self._lineup.bell.wait(_POLL_S)
        if self._lineup.stopping:
            return {}
        ready = self._take_now()
        for stream in self._lineup.held:
            if (first := self._lineup.begin_part(stream)) is not None:
                ready[stream] = first
        return ready

    def _take_ahead(self) -> dict[int, Ready]:
        """The same without waiting: empty unless a device could begin them at once."""
        if not self._streams.overlap or any(map(self._lineup.is_over, self._lineup.playing)):
            return {}
        return {} if self._lineup.held or self._must_wait() else self._take_now()

    def _take_now(self) -> dict[int, Ready]:
        frames = {stream: each.take() for stream, each in self._lineup.playing.items()}
        return {stream: ready for stream, ready in frames.items() if ready is not None}

    def _must_wait(self) -> bool:
        """Wait for every file that keeps up, and for others only if there is none."""
        if self._lineup.held:
            return False
        playing = self._lineup.playing.values()
        files = [each.waiting for each in playing if not (each.clip.live or each.late)]
        return any(files) if files else all(each.waiting for each in playing)

    # --------------------------------------------------------------------------------- frames

    def _begin(self, ready: dict[int, Ready]) -> _Begun:
        frames: dict[int, Frame] = {}
        skipped: dict[int, tuple[int, Skipped]] = {}
        for stream, each in ready.items():
            session, playing = self._streams.sessions[stream], self._lineup.playing[stream]
            self._report_notices(playing, each)
            if not Playing.cut_before(each):  # dropped frames are not the beginning of a clip
                for _ in range(each.dropped):
                    session.skip()
            playing.counts.dropped += each.dropped
            if isinstance(each.frame, Skipped):
                skipped[stream] = session.frames, each.frame
                session.skip()
            else:
                frames[stream] = each.resized or each.frame.picture
        with self._timed():
            return _Begun(self._streams.begin(frames), ready, skipped)

    def _report_notices(self, playing: Playing, ready: Ready) -> None:
        for each in ready.before:
            if isinstance(each, Notice):
                playing.counts.notices += 1
                playing.counts.gap_seconds += each.gap_s
                self._listeners.report(f"{playing.clip.name}: {each.text}")

    def _report_skipped(self, begun: _Begun) -> None:
        for stream, (number, skipped) in begun.skipped.items():
            clip = self._lineup.playing[stream].clip
            self._listeners.warn(f"{clip.name}: frame {number} is skipped, {skipped.reason}")
            self._listeners.delivery.skipped(clip, number, skipped)
            self._summary.skipped += 1
            self._listeners.progress(clip, number + 1, self._summary)

    def _follow(self, begun: _Begun) -> None:
        with self._timed():
            instances_of = begun.step.follow()
        end = time.perf_counter()
        for stream, instances in instances_of.items():
            self._pass_on(stream, begun.ready[stream], instances, end)

    def _pass_on(self, stream: int, ready: Ready, instances: Instances, end: float) -> None:
        assert not isinstance(ready.frame, Skipped)
        playing = self._lineup.playing[stream]
        for stage, spent_ms in self._streams.sessions[stream].stage_ms.items():
            self._summary.stage_seconds[stage] += spent_ms / 1e3
        playing.counts.count(len(instances), end - ready.since)
        self._summary.frames += 1
        self._summary.instances += len(instances)
        self._listeners.delivery.frame(playing.clip, ready.frame, instances)
        self._listeners.progress(playing.clip, instances.frame + 1, self._summary)

    @contextmanager
    def _timed(self) -> Iterator[None]:
        begin = time.perf_counter()
        try:
            yield
        finally:
            self._summary.step_seconds += time.perf_counter() - begin
