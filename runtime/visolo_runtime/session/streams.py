"""Several video streams through one set of engines.

Each stream has its own session, and no stream affects the results of another. Where the engines
take several frames at once, neighbouring streams that have a frame go through the frame and memory
graphs together. Their frames are resized in parallel threads.

On a device the host's part of a step takes no time of the engines: while the host follows some
frames, the device computes the next ones.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from visolo_core.errors import VisoloError
from visolo_core.instances import Instances
from visolo_runtime.engines.buffers import Buffers
from visolo_runtime.session.loading import Model
from visolo_runtime.session.session import Session
from visolo_runtime.session.step import Step
from visolo_runtime.session.stream import StreamFrame
from visolo_runtime.video.frames import ChannelOrder, Frame

_T = TypeVar("_T")


class Streams:
    """Tracks the instances of several videos. Close it, or use it in a ``with`` block.

    Args:
        model: its engines are shared.
        sizes: one per stream: height and width of its masks, None for the frame's own.
        record: keep every mask for the sessions' ``finish``.
        channel_order: of frames given as arrays, ``rgb`` or ``bgr``.
        device_masks: hand the masks out on the GPU too, as ``Instances.device_masks``.

    Raises:
        VisoloError: if there is no stream, or masks on a GPU are asked of engines that have none
            there.
    """

    def __init__(
        self,
        model: Model,
        sizes: Sequence[tuple[int, int] | None],
        record: bool = False,
        channel_order: ChannelOrder = "rgb",
        device_masks: bool = False,
    ) -> None:
        if not sizes:
            raise VisoloError("several streams need one size each, and no size was given")
        self._model, self._record, self._channel_order = model, record, channel_order
        self._device_masks = device_masks
        self._buffers = model.engines.buffers(len(sizes))
        self.sessions = [self._session(stream, size) for stream, size in enumerate(sizes)]
        """One per stream."""
        threads = min(len(sizes), os.cpu_count() or 1)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="visolo")

    def restart(
        self, stream: int, size: tuple[int, int] | None = None, model: Model | None = None
    ) -> None:
        """Start another video in a stream whose video is over.

        Args:
            stream: number of the stream.
            size: height and width of its masks, None for the frame's own.
            model: the streams' own with other settings or classes, for this video; its engines are
                not used. None means the streams' own.

        Raises:
            VisoloError: if the settings need more memory slots than the engines have. The stream
                does not change.
        """
        self.sessions[stream] = self._session(stream, size, model)

    def step(self, frames: Mapping[int, Frame]) -> dict[int, Instances]:
        """The instances of the next frame of each stream that has one.

        Args:
            frames: by stream, each as for :meth:`Session.step`.

        Raises:
            VisoloError: if the type, shape or size of a frame is wrong. No stream advances then.
        """
        step = self.begin(frames)
        step.compute()
        return step.follow()

    def step_each(self, frames: Mapping[int, Frame]) -> dict[int, Instances | VisoloError]:
        """As :meth:`step`, but a frame that is refused holds up its own stream only.

        Args:
            frames: by stream, each as for :meth:`Session.step`.

        Returns:
            by stream, the instances of its frame, or why the frame was refused.
        """
        prepared = self._prepared(_prepared_or_refused, frames)
        refused = {each: why for each, why in prepared.items() if isinstance(why, VisoloError)}
        accepted = {each: it for each, it in prepared.items() if isinstance(it, StreamFrame)}
        step = StreamsStep(self._buffers, accepted)
        step.compute()
        return {**step.follow(), **refused}

    def begin(self, frames: Mapping[int, Frame]) -> StreamsStep:
        """Begin a step, whose parts can then overlap with those of the next one.

        Args:
            frames: by stream, each as for :meth:`Session.step`.

        Raises:
            VisoloError: if the type, shape or size of a frame is wrong. No stream advances then.
        """
        return StreamsStep(self._buffers, self._prepared(Session.prepare, frames))

    @property
    def overlap(self) -> bool:
        """Whether it pays to begin a step before the last one was followed."""
        return self._buffers.computes_ahead

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()

    def __enter__(self) -> Streams:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _prepared(
        self, prepare: Callable[[Session, Frame], _T], frames: Mapping[int, Frame]
    ) -> dict[int, _T]:
        """What each stream makes of its frame, in parallel threads; in the order of streams."""
        numbers = sorted(frames)
        each = self._pool.map if len(numbers) > 1 else map
        sessions = [self.sessions[number] for number in numbers]
        prepared = each(prepare, sessions, [frames[number] for number in numbers])
        return dict(zip(numbers, prepared, strict=True))

    def _session(
        self, stream: int, size: tuple[int, int] | None, model: Model | None = None
    ) -> Session:
        options = (model or self._model).stream_options(self._record, size, self._device_masks)
        return Session(self._buffers, options, stream, self._channel_order)


def _prepared_or_refused(session: Session, frame: Frame) -> StreamFrame | VisoloError:
    try:
        return session.prepare(frame)
    except VisoloError as error:
        return error


class StreamsStep:
    """The next frame of each of some streams, on its way from images to instances.

    :meth:`compute` and :meth:`follow` are called once each, in this order. The next step may begin
    when ``compute`` has returned, and computes when ``follow`` has.

    Args:
        buffers: with a row for each stream.
        frames: by stream.
    """

    def __init__(self, buffers: Buffers, frames: Mapping[int, StreamFrame]) -> None:
        self._buffers, self._frames = buffers, frames
        self._runs = neighbours(sorted(frames), buffers.batch)
        self._instances: dict[int, Instances] = {}
        self._begun = self._submit()

    def compute(self) -> None:
        """Everything that engines do; the host follows each run while a device is at the next."""
        while self._begun:
            run, step = self._begun
            step.compute()
            following = self._submit()
            if not following:
                break
            self._instances |= zip(run, step.follow(), strict=True)
            self._begun = following

    def follow(self) -> dict[int, Instances]:
        """What the host does: the instances of each frame, by stream."""
        if self._begun:
            run, step = self._begun
            self._instances |= zip(run, step.follow(), strict=True)
        return self._instances

    def _submit(self) -> tuple[range, Step] | None:
        run = next(self._runs, None)
        if run is None:
            return None
        return run, Step(self._buffers, [self._frames[stream] for stream in run])


def neighbours(streams: Sequence[int], most: int) -> Iterator[range]:
    """Runs of consecutive stream numbers, none longer than ``most``.

    >>> list(neighbours([0, 1, 2, 4], 2))
    [range(0, 2), range(2, 3), range(4, 5)]
    """
    begin = 0
    for end in range(1, len(streams) + 1):
        ends = end == len(streams) or streams[end] != streams[end - 1] + 1 or end - begin == most
        if ends:
            yield range(streams[begin], streams[end - 1] + 1)
            begin = end
