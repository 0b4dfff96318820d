"""One step through the graphs, for one stream or for several in neighbouring rows."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from visolo_core.instances import Instances
from visolo_runtime.engines.buffers import Buffers
from visolo_runtime.session.stream import Stream
from visolo_runtime.video.frames import ResizedFrame


def step(
    buffers: Buffers, streams: Sequence[Stream], frames: Sequence[ResizedFrame]
) -> list[Instances]:
    """The instances of the next frame of each stream.

    Args:
        buffers: with a row for each stream.
        streams: in neighbouring rows, at most ``buffers.batch`` of them.
        frames: one per stream, checked by :meth:`Stream.check`.
    """
    rows = range(streams[0].row, streams[0].row + len(streams))
    with _shared(streams, "frame graph"):
        results = buffers.frame(
            rows,
            [frame.image for frame in frames],
            [stream.valid_slots() for stream in streams],
        )
    instances = []
    for stream, frame, result in zip(streams, frames, results, strict=True):
        candidates, decoded = stream.choose(result), None
        if len(candidates):
            with stream.timed("decode graph"):
                decoded = buffers.decode(stream.row, candidates.cell)
        instances.append(stream.follow(frame, result, candidates, decoded))
    slots = [
        slot
        for stream, result in zip(streams, results, strict=True)
        if (slot := stream.remember(result.key)) is not None
    ]
    if slots:  # either every stream has a memory or none does
        with _shared(streams, "memory graph"):
            buffers.store(rows, slots)
    return instances


@contextmanager
def _shared(streams: Sequence[Stream], stage: str) -> Iterator[None]:
    """Share the time of a block equally among the streams."""
    begin = time.perf_counter()
    try:
        yield
    finally:
        spent_ms = (time.perf_counter() - begin) * 1e3
        for stream in streams:
            stream.stage_ms[stage] += spent_ms / len(streams)
