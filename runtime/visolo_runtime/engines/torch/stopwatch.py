"""How long a GPU takes for the stages of a frame, by events around them on the current stream."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


class TorchStopwatch:
    """Times the stages of one frame after the other."""

    def __init__(self) -> None:
        self._events: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []

    def reset(self) -> None:
        """Begin a frame."""
        self._events.clear()

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Note when what the block gives to the stream begins and ends."""
        begin, end = (
            torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            for _ in range(2)
        )
        begin.record()
        try:
            yield
        finally:
            end.record()
        self._events.append((stage, begin, end))

    def milliseconds(self) -> dict[str, float]:
        """By stage, all times of this frame added up; waits for the device."""
        spent: dict[str, float] = {}
        for stage, begin, end in self._events:
            end.synchronize()
            spent[stage] = spent.get(stage, 0.0) + begin.elapsed_time(end)
        return spent
