"""How long a device takes for the stages of a frame, by events around them on its streams."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from visolo_runtime.engines.tensorrt.device import CudaEvent, CudaStream, Device


class DeviceStopwatch:
    """Times the stages of one frame after the other.

    Args:
        device: whose streams do the work; it must be current in every call but :meth:`reset`.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._events: dict[str, list[tuple[CudaEvent, CudaEvent]]] = {}
        """by stage, for as many times as it was ever done in one frame"""
        self._times: Counter[str] = Counter()

    def reset(self) -> None:
        """Begin a frame."""
        self._times.clear()

    @contextmanager
    def timed(self, stage: str, stream: CudaStream) -> Iterator[None]:
        """Note when what the block gives to the stream begins and ends."""
        events = self._events.setdefault(stage, [])
        if self._times[stage] == len(events):
            events.append((self._device.event(), self._device.event()))
        begin, end = events[self._times[stage]]
        begin.record(stream)
        try:
            yield
        finally:
            end.record(stream)
        self._times[stage] += 1

    def milliseconds(self) -> dict[str, float]:
        """By stage, all times of this frame added up; waits for the device."""
        spent: dict[str, float] = {}
        for stage, times in self._times.items():
            for begin, end in self._events[stage][:times]:
                end.wait()
                spent[stage] = spent.get(stage, 0.0) + end.milliseconds_since(begin)
        return spent
