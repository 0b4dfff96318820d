"""Whole pictures out of the fields of interlaced video."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from visolo_runtime.sources.damage import Undecodable, Unmarked


def deinterlaced(frames: Iterator[Any], time_base: Fraction) -> Iterator[Any]:
    """As many frames, those that are interlaced by FFmpeg's filter bwdif; the others are unchanged.

    Args:
        frames: of FFmpeg, ``Undecodable`` and ``Unmarked``.
        time_base: seconds of a unit of their times; the frames that are returned have the same.
    """
    fields: _Filter | None = None
    for frame in frames:
        if isinstance(frame, (Undecodable, Unmarked)):
            yield frame
            continue
        shape = frame.width, frame.height, frame.format.name
        if fields is None or fields.shape != shape:
            if fields is not None:
                yield from fields.rest()
            fields = _Filter(frame, time_base)
        yield from fields.next(frame)
    if fields is not None:
        yield from fields.rest()


class _Filter:
    def __init__(self, frame: Any, time_base: Fraction) -> None:
        from av.filter import Graph

        self.shape = frame.width, frame.height, frame.format.name
        self._time_base = time_base
        self._graph = Graph()
        source = self._graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=time_base
        )
        bwdif = self._graph.add("bwdif", "mode=send_frame:deint=interlaced")
        # bwdif counts in half units, as it can make two frames of one.
        settb = self._graph.add("settb", f"{time_base.numerator}/{time_base.denominator}")
        sink = self._graph.add("buffersink")
        for before, after in ((source, bwdif), (bwdif, settb), (settb, sink)):
            before.link_to(after)
        self._graph.configure()

    def next(self, frame: Any) -> Iterator[Any]:
        frame.time_base = self._time_base
        self._graph.push(frame)
        yield from self._pull()

    def rest(self) -> Iterator[Any]:
        self._graph.push(None)
        yield from self._pull()

    def _pull(self) -> Iterator[Any]:
        import av

        while True:
            try:
                yield self._graph.pull()
            except (av.BlockingIOError, av.EOFError):
                return
