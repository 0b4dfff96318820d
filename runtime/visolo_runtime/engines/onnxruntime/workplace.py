"""Memory on a device and the contexts that are bound to it, which one session leaves to the next.

A binding never changes once it is made, but for the slot that a frame is stored in: so a context is
bound once and run ever after, and its work can be recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from visolo_core.contract import MASKS, STREAMS, GraphName
from visolo_runtime.engines.buffers import KEPT
from visolo_runtime.engines.engine import Engine, Engines
from visolo_runtime.engines.onnxruntime.device import OrtContext, OrtDevice
from visolo_runtime.engines.onnxruntime.device_tensors import OrtTensors


class Workplace:
    """Device memory of a number of rows and the contexts bound to it, for one session at a time.

    ONNX Runtime keeps a recording until its session ends, so the next buffers take over what
    earlier ones leave, recordings and all; the memory is freed with the model.

    Args:
        device: where the engines work.
        engines: on that device.
        rows: number of streams.

    Raises:
        VisoloError: if the device is out of memory.
    """

    def __init__(self, device: OrtDevice, engines: Engines, rows: int) -> None:
        self.device = device
        # Not the engines' backend, which keeps workplaces: all goes with the last who needs it.
        self._contract, self._by_graph = engines.contract, engines.by_graph
        frame, mask, decode = (engines.contract[graph] for graph in ("frame", "mask", "decode"))
        specs = {each.name: each for each in (*frame.inputs, *frame.outputs, *mask.outputs)}
        self.tensors = OrtTensors(device, specs, decode, rows, engines.batch)
        self._contexts: dict[tuple[GraphName, int, int, int], OrtContext] = {}

    def frame(self, rows: range) -> OrtContext:
        """The frame graph of neighbouring rows."""
        tensors, spec = self.tensors, self._contract["frame"]

        def addresses() -> dict[str, int]:
            kept = {name: tensors.kept(name, rows.start) for name in KEPT}
            outputs = {name: tensors.placed(name, 0) for name in spec.names("outputs")}
            return kept | outputs | tensors.uploads(len(rows)).addresses

        return self._context(("frame", rows.start, len(rows), 0), addresses, {STREAMS: len(rows)})

    def mask(self, place: int, rows: int) -> OrtContext:
        """The mask graph of so many rows, from a place of the launch on."""
        spec = self._contract["mask"]

        def addresses() -> dict[str, int]:
            names = spec.names("inputs") + spec.names("outputs")
            return {name: self.tensors.placed(name, place) for name in names}

        return self._context(("mask", place, rows, 0), addresses, {STREAMS: rows})

    def decode(self, place: int, masks: int, kernels: int) -> OrtContext:
        """The decode graph for so many kernels at an address."""
        tensors = self.tensors

        def addresses() -> dict[str, int]:
            features = tensors.placed("mask_features", place)
            inputs = {"mask_features": features, "kernels": kernels}
            return inputs | {"masks": tensors.masks} | tensors.counts.addresses

        return self._context(("decode", place, masks, kernels), addresses, {MASKS: masks})

    def memory(self, place: int, value: int) -> OrtContext:
        """The memory graph of one row, into a slot: bound for each, so it is not recorded."""

        def addresses() -> dict[str, int]:
            return {"features": self.tensors.placed("features", place)}

        context = self._context(("memory", place, 1, 0), addresses, {STREAMS: 1})
        context.bind({"value": value}, {STREAMS: 1})
        return context

    def _context(
        self,
        key: tuple[GraphName, int, int, int],
        addresses: Callable[[], dict[str, int]],
        lengths: Mapping[str, int],
    ) -> OrtContext:
        if key not in self._contexts:
            engine: Engine[OrtContext] = self._by_graph[key[0]]
            self._contexts[key] = engine.context()
            self._contexts[key].bind(addresses(), lengths)
        return self._contexts[key]
