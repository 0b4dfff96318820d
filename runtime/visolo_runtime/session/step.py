"""One step through the graphs, for one stream or for several in neighbouring rows."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from visolo_core.decoding import Candidates
from visolo_core.instances import Instances
from visolo_runtime.engines.buffers import Buffers, DecodedMasks
from visolo_runtime.session.stream import StreamFrame


class Step:
    """The next frame of each of some streams, on its way from images to instances.

    :meth:`compute` and :meth:`follow` are called once each, in this order. The next step of the
    same buffers may begin when ``compute`` has returned: on a device, its frames are computed while
    the host follows the instances of these.

    Args:
        buffers: with a row for each stream.
        frames: in neighbouring rows, at most ``buffers.batch`` of them.
    """

    def __init__(self, buffers: Buffers, frames: Sequence[StreamFrame]) -> None:
        self._buffers, self._frames = buffers, frames
        streams = [frame.stream for frame in frames]
        self._rows = range(streams[0].row, streams[0].row + len(streams))
        self._results: list[tuple[Candidates, DecodedMasks | None]] = []
        with self._timed("frame graph"):
            buffers.submit(self._rows, [frame.stream.inputs(frame) for frame in frames])

    def compute(self) -> None:
        """Everything that engines do: candidates, their masks, and the memory of the frame."""
        buffers, frames = self._buffers, self._frames
        with self._timed("frame graph"):
            candidates = buffers.frame()
        rows = [row for row, cells in zip(self._rows, candidates, strict=True) if len(cells)]
        if rows:
            with self._timed("mask graph"):
                buffers.mask(rows)
        for frame, cells in zip(frames, candidates, strict=True):
            decoded = None
            if len(cells):
                with frame.timed("decode graph"):
                    decoded = buffers.decode(frame.stream.row, cells.cell)
            self._results.append((cells, decoded))
        with self._timed("memory graph"):
            buffers.store(self._rows, [frame.stream.remember() for frame in frames])

    def follow(self) -> list[Instances]:
        """What the host does: the instances of each frame, with their tracks."""
        return [
            frame.stream.follow(frame, candidates, decoded)
            for frame, (candidates, decoded) in zip(self._frames, self._results, strict=True)
        ]

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        """Share the time of a block equally among the streams."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            spent_ms = (time.perf_counter() - begin) * 1e3
            for frame in self._frames:
                frame.stage_ms[stage] += spent_ms / len(self._frames)
