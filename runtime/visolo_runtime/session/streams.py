"""Several video streams through one set of engines.

Each stream has its own session, and no stream affects the results of another. Where the engines
take several frames at once, neighbouring streams that have a frame go through the frame and memory
graphs together. Their frames are resized in parallel threads.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from visolo_core.errors import VisoloError
from visolo_core.instances import Instances
from visolo_runtime.session.loading import Model
from visolo_runtime.session.session import Session
from visolo_runtime.session.step import Step
from visolo_runtime.video.frames import ChannelOrder, Frame


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

    def restart(self, stream: int, size: tuple[int, int] | None = None) -> None:
        """Start another video in a stream whose video is over.

        Args:
            stream: number of the stream.
            size: height and width of its masks, None for the frame's own.
        """
        self.sessions[stream] = self._session(stream, size)

    def step(self, frames: Mapping[int, Frame]) -> dict[int, Instances]:
        """The instances of the next frame of each stream that has one.

        Args:
            frames: by stream, each as for :meth:`Session.step`.

        Raises:
            VisoloError: if the type, shape or size of a frame is wrong. No stream advances then.
        """
        numbers = sorted(frames)
        each = self._pool.map if len(numbers) > 1 else map
        sessions = [self.sessions[number] for number in numbers]
        prepared = dict(
            zip(
                numbers,
                each(Session.prepare, sessions, [frames[number] for number in numbers]),
                strict=True,
            )
        )
        instances: dict[int, Instances] = {}
        computed: tuple[range, Step] | None = None
        for run in neighbours(numbers, self._buffers.batch):
            step = Step(self._buffers, [prepared[number] for number in run])
            if computed:  # while a device works on this run
                instances |= zip(computed[0], computed[1].follow(), strict=True)
            step.compute()
            computed = run, step
        if computed:
            instances |= zip(computed[0], computed[1].follow(), strict=True)
        return instances

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()

    def __enter__(self) -> Streams:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _session(self, stream: int, size: tuple[int, int] | None) -> Session:
        options = self._model.stream_options(self._record, size, self._device_masks)
        return Session(self._buffers, options, stream, self._channel_order)


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
