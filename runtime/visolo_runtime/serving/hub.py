"""The streams of a server: tracked together on the engines of one model, for any number of viewers.

One thread runs the engines. It never waits for a viewer: a viewer is told of a new frame and takes
the newest one whenever it likes. Recordings play at their own speed, live sources at the speed at
which frames arrive; frames for which there is no time are dropped and counted.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from visolo_core.errors import VisoloError
from visolo_core.instances import Instances
from visolo_runtime.serving.hub_stream import NOTICES, HubStream, State, StreamSettings
from visolo_runtime.serving.pace import Pace
from visolo_runtime.serving.refusals import FullError
from visolo_runtime.serving.tracked import TrackedFrame, fitting_size
from visolo_runtime.session.loading import Model
from visolo_runtime.session.streams import Streams
from visolo_runtime.sources.clip import Clip, Cut, Notice, SourceFrame
from visolo_runtime.sources.feed import Feed, Policy, Ready

_POLL_S = 0.2


class Hub:
    """Streams that are tracked together. Close it, or use it in a ``with`` block.

    Args:
        model: its engines run all streams.
        capacity: most streams at a time.
        tallest: frames with more rows are shown smaller; tracking always sees the whole frame.
        keep: receives the state of each stream with a key that has not ended when the hub is
            closed, from the engines' thread.

    Raises:
        VisoloError: if there is not enough memory for so many streams.
    """

    def __init__(
        self,
        model: Model,
        capacity: int = 8,
        tallest: int = 720,
        keep: Callable[[HubStream, bytes], None] | None = None,
    ) -> None:
        self.model, self.capacity, self._tallest = model, capacity, tallest
        self._keep = keep
        self._streams = Streams(model, [None] * capacity, record=False)
        self._by_number: dict[int, HubStream] = {}
        self._free = list(range(capacity))[::-1]
        self._bell = threading.Condition()
        self._lock = threading.RLock()
        self._closed = False
        self._next = 1
        self.step_seconds = 0.0
        """inside the engines' steps since the start"""
        self.failure: BaseException | None = None
        """What ended the engines' thread, if anything did."""
        self._thread = threading.Thread(target=self._work, name="visolo-hub", daemon=True)
        self._thread.start()

    # ------------------------------------------------------------------ called from any thread

    def add(
        self,
        clip: Clip,
        policy: Policy | None = None,
        sends_picture: bool = True,
        source: str = "",
        name: str = "",
        saved: bytes | None = None,
    ) -> HubStream:
        """Begin to track a clip.

        Args:
            clip: from ``open_source``, or of a visitor.
            policy: which of its frames to run; by default the latest.
            sends_picture: whether messages to viewers hold the picture.
            source: as a person wrote it, without passwords.
            name: by which the stream is found.
            saved: state of the session that tracked it before: its tracks go on.

        Raises:
            FullError: if all streams are in use.
        """
        with self._lock:
            self._release_over()
            if not self._free or self._closed:
                raise FullError(
                    f"all {self.capacity} streams are in use: remove one, or start the server "
                    "with more --max-streams"
                )
            pace = None if clip.live else Pace()
            played = clip
            if pace is not None:
                played = replace(clip, frames=_paced(clip, pace))
            notices: deque[str] = deque(maxlen=NOTICES)
            feed = Feed(
                played, policy or "latest", self._bell,
                report=lambda notice: notices.append(notice.text),
            )  # fmt: skip
            row = self._free.pop()
            stream = HubStream(
                self._next, row, clip, feed, pace, sends_picture, source, name, saved,
                notices=notices,
            )  # fmt: skip
            self._next += 1
            self._by_number[stream.number] = stream
        return stream

    def streams(self) -> list[HubStream]:
        """All that were not removed, by number."""
        with self._lock:
            return list(self._by_number.values())

    def find(self, number: int) -> HubStream | None:
        """A stream by its number."""
        with self._lock:
            return self._by_number.get(number)

    def remove(self, number: int) -> bool:
        """End a stream and forget it; False if there is none of this number."""
        with self._lock:
            stream = self._by_number.pop(number, None)
            if stream is None:
                return False
            self._end(stream, "ended", "removed")
        return True

    def change(self, number: int, settings: StreamSettings) -> None:
        """Use other settings for a stream from its next frame on."""
        with self._lock:
            stream = self._by_number[number]
            stream.settings = settings
            if stream.pace is not None:
                stream.pace.pause(settings.paused)
            if not stream.over and stream.frames:
                stream.state = "paused" if settings.paused else "playing"

    def listen(
        self, stream: HubStream, listener: Callable[[HubStream, TrackedFrame | None], None]
    ) -> Callable[[], None]:
        """Call a function with every frame of a stream, and with None when it is over.

        Returns:
            a function that ends this.
        """
        with self._lock:
            stream.listeners.append(listener)
            over = stream.over
        if over:
            listener(stream, None)

        def stop() -> None:
            with self._lock:
                if listener in stream.listeners:
                    stream.listeners.remove(listener)

        return stop

    @property
    def healthy(self) -> bool:
        """Whether the engines' thread runs."""
        return self._thread.is_alive() and self.failure is None

    def close(self) -> None:
        """End all streams and the engines' thread."""
        self._closed = True
        with self._bell:
            self._bell.notify_all()
        self._thread.join()
        with self._lock:
            for stream in self._by_number.values():
                self._end(stream, "ended", "the server stops")
        self._streams.close()

    def __enter__(self) -> Hub:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -------------------------------------------------------------------- the engines' thread

    def _work(self) -> None:
        try:
            while not self._closed:
                ready = self._take()
                if ready:
                    self._step(ready)
            for stream in self.streams():
                self._keep_state(stream)
        except BaseException as error:  # reported by ``healthy``; a server without engines is none
            self.failure = error
            with self._lock:
                for stream in self._by_number.values():
                    self._end(stream, "failed", str(error))

    def _take(self) -> dict[int, tuple[HubStream, Ready]]:
        """The next frame of each stream that has one, by row."""
        with self._bell:
            self._bell.wait_for(self._any_ready, _POLL_S)
        taken = {}
        for stream in self.streams():
            if stream.over:
                continue
            if stream.lease_until is not None and stream.lease_until < time.monotonic():
                self._keep_state(stream)
                with self._lock:
                    self._end(stream, "ended", "nobody asked for it any longer")
                continue
            try:
                ready = stream.feed.take(timeout=0)
            except VisoloError as error:
                with self._lock:
                    self._end(stream, "failed", str(error))
                continue
            if ready is None:
                if stream.feed.over:
                    with self._lock:
                        self._end(stream, "ended", "its last frame was shown")
            elif stream.settings.paused and stream.pace is None:
                self._count_dropped(stream, ready.dropped + 1)
            else:
                taken[stream.row] = stream, ready
        return taken

    def _any_ready(self) -> bool:
        return self._closed or any(
            not stream.over and not stream.feed.waiting for stream in self.streams()
        )

    def _step(self, taken: dict[int, tuple[HubStream, Ready]]) -> None:
        frames = {}
        for row, (stream, ready) in taken.items():
            self._note(stream, ready)
            if not isinstance(ready.frame, SourceFrame):
                stream.skipped += 1
                stream.notices.append(ready.frame.reason)
                self._streams.sessions[row].skip()
                continue
            picture = ready.frame.picture
            size = picture.shape[0], picture.shape[1]
            begins_anew = any(isinstance(each, Cut) for each in ready.before)
            if stream.size != size or begins_anew:
                if stream.size is not None and stream.size != size:
                    stream.notices.append(
                        f"frames are {size[1]}x{size[0]} from here on: tracks begin anew"
                    )
                self._begin_session(stream, size, fitting_size(picture, self._tallest))
                stream.size = size
            frames[row] = picture
        if not frames:
            return
        begin = time.perf_counter()
        instances_of = self._streams.step(frames)
        self.step_seconds += time.perf_counter() - begin
        for row, instances in instances_of.items():
            self._publish(*taken[row], instances)

    def _begin_session(
        self, stream: HubStream, size: tuple[int, int], shown: tuple[int, int] | None
    ) -> None:
        """Tracks begin anew, or go on where another server stopped."""
        self._streams.restart(stream.row, shown)
        saved, stream.saved = stream.saved, None
        if saved is None:
            return
        session = self._streams.sessions[stream.row]
        try:
            session.restore(saved)
            if session.frame_size != size:
                raise VisoloError("its frames had another size")
        except VisoloError as error:
            self._streams.restart(stream.row, shown)
            stream.notices.append(f"tracks begin anew, their state cannot be taken up: {error}")

    def _keep_state(self, stream: HubStream) -> None:
        if self._keep and stream.key and stream.size is not None and not stream.over:
            self._keep(stream, self._streams.sessions[stream.row].save())

    def _note(self, stream: HubStream, ready: Ready) -> None:
        self._count_dropped(stream, ready.dropped)
        for event in ready.before:
            stream.notices.append(event.text if isinstance(event, Notice) else event.reason)

    def _count_dropped(self, stream: HubStream, dropped: int) -> None:
        stream.dropped += dropped
        session = self._streams.sessions[stream.row]
        for _ in range(dropped):
            session.skip()

    def _publish(self, stream: HubStream, ready: Ready, instances: Instances) -> None:
        assert isinstance(ready.frame, SourceFrame)
        settings = stream.settings
        shown = instances.confidence >= settings.least_score
        if settings.classes is not None:
            shown &= np.isin(instances.track_class_id, settings.classes)
        tracked = TrackedFrame(
            stream.number, instances.frame, ready.frame.time_s, ready.since, ready.frame.picture,
            instances if shown.all() else instances[shown], stream.dropped, stream.sends_picture,
        )  # fmt: skip
        with self._lock:
            if stream.over:
                return
            stream.frames += 1
            stream.state = "paused" if settings.paused else "playing"
            stream.latency_ms.append(tracked.age_ms)
            stream.done_at.append(time.perf_counter())
            stream.latest = tracked
            listeners = list(stream.listeners)
        for listener in listeners:
            listener(stream, tracked)

    def _end(self, stream: HubStream, state: State, reason: str) -> None:
        """Under the lock: end a stream; its row is free when its number is forgotten."""
        if stream.over:
            return
        stream.state, stream.reason = state, reason
        if stream.pace is not None:
            stream.pace.close()
        stream.feed.close()
        self._free.append(stream.row)
        listeners, stream.listeners = stream.listeners, []
        for listener in listeners:
            listener(stream, None)

    def _release_over(self) -> None:
        """Under the lock: forget streams that are over if many are kept."""
        over = [stream.number for stream in self._by_number.values() if stream.over]
        for number in over[: max(0, len(over) - self.capacity)]:
            del self._by_number[number]


def _paced(clip: Clip, pace: Pace) -> Callable[[], Iterator[Any]]:
    return lambda: pace.frames(clip.frames())
