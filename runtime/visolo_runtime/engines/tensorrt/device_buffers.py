"""Buffers on a GPU: everything dense stays there.

A frame goes up once and comes down once, as what the host needs for choosing and association: class
scores, queries, keys and kernels, which lie one behind the other. Masks come down after the choice.
A memory slot is a place on the device that the memory engine writes into; the frame engine reads
all of them where they lie, and a row's neighbours lie beside it, so that several go through the
engines together without being copied.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from visolo_core.contract import MASKS, STREAMS, GraphName
from visolo_core.decoding import Ints
from visolo_core.errors import VisoloError
from visolo_runtime.engines.buffers import (
    DECODE_LIMIT,
    Array,
    Buffers,
    DecodedMasks,
    FrameResult,
    join_parts,
)
from visolo_runtime.engines.engine import Engines
from visolo_runtime.engines.tensorrt.device import CudaGraph, CudaStream, Device, DeviceMemory
from visolo_runtime.engines.tensorrt.engine import TensorRtContext, TensorRtEngine
from visolo_runtime.engines.tensorrt.stopwatch import DeviceStopwatch

_LOG = logging.getLogger(__name__)
_ALIGNMENT = 256  # bytes, that TensorRT asks of addresses
_UPLOADED = ("image", "memory_valid")
_DOWNLOADED = ("scores", "query", "key", "kernels")
_KEPT = ("memory_key", "memory_value", "mask_features", "features")
_COUNTS = ("area", "probability_sum", "intersection")


class DeviceBuffers(Buffers):
    """Device memory of so many rows, and contexts of TensorRT engines that work in it.

    What the host gives and takes is staged: it lies at the beginning of a buffer whichever rows it
    belongs to. What stays on the device has a place of its own for every row.

    Args:
        device: the GPU.
        engines: loaded on it.
        rows: streams.
        use_graphs: record the frame and memory engines once for each set of rows and each slot, and
            replay them.

    Raises:
        VisoloError: if the device has no room for them.
    """

    def __init__(
        self, device: Device, engines: Engines, rows: int, use_graphs: bool = True
    ) -> None:
        super().__init__(engines.contract, rows, engines.batch)
        self._device, self._engines, self._use_graphs = device, engines, use_graphs
        strides = {name: _aligned(self._row_bytes(name)) for name in _KEPT}
        if any(stride != self._row_bytes(name) for name, stride in strides.items()):
            self.batch = 1  # a row that must be padded has no neighbour
        self._strides = strides
        self._contexts: dict[tuple[GraphName, int], TensorRtContext] = {}
        self._graphs: dict[tuple[GraphName, range, int], CudaGraph] = {}
        self._frame_rows = range(0)
        self._memories: list[DeviceMemory] = []
        with device.current():
            self._stream = device.stream()
            self._allocate()
            for graph in ("frame", "memory"):
                self._context(graph, 1)
            self._decode = self._new_decode_context()
        self._stopwatch = DeviceStopwatch(device)

    def __del__(self) -> None:
        # The memory must not go while the device still works in it; not every call waits.
        stream: CudaStream | None = getattr(self, "_stream", None)
        if stream is not None:
            with self._device.current():
                stream.wait()

    # ------------------------------------------------------------------------------- set-up

    def _allocate(self) -> None:
        device, batch = self._device, self.batch
        self._kept = {
            name: self._new_memory(self.rows * stride) for name, stride in self._strides.items()
        }
        self._staged = {name: self._new_memory(batch * self._row_bytes(name)) for name in _UPLOADED}
        self._pinned = {
            name: device.pinned(self._shape(name, batch), self.specs[name].dtype)
            for name in _UPLOADED
        }
        self._outputs = self._new_block({name: self._shape(name, batch) for name in _DOWNLOADED})
        self._values = self._new_memory(batch * self._slot_bytes("memory_value"))
        _, depth, _ = self._shape("kernels")
        self._kernels = self._new_memory(DECODE_LIMIT * depth * 4)
        self._pinned_kernels = device.pinned((DECODE_LIMIT, depth), "float32")
        self._masks = self._new_memory(DECODE_LIMIT * prod(self.input_size))
        self._pinned_masks = device.pinned((DECODE_LIMIT, *self.input_size), "uint8")
        pairs = (DECODE_LIMIT, DECODE_LIMIT)
        self._counts = self._new_block(
            {name: pairs[: 2 if name == "intersection" else 1] for name in _COUNTS}
        )

    def _new_memory(self, nbytes: int) -> DeviceMemory:
        # Kept from the first moment: if there is no room for the next piece, this one must stay
        # until it has been cleared.
        self._memories.append(self._device.allocate(nbytes, self._stream))
        return self._memories[-1]

    def _new_block(self, shapes: dict[str, tuple[int, ...]]) -> _Block:
        return _Block(self._device, self._new_memory, shapes)

    def _new_decode_context(self) -> TensorRtContext:
        context: TensorRtContext = self._engines.by_graph["decode"].context()
        context.bind("kernels", self._kernels.address)
        context.bind("masks", self._masks.address)
        for name in _COUNTS:
            context.bind(name, self._counts.address(name))
        return context

    def _context(self, graph: GraphName, count: int) -> TensorRtContext:
        """The context for so many rows. Its shapes never change: work that was recorded with other
        shapes than a context has now may be replayed wrongly."""
        context = self._contexts.get((graph, count))
        if context is None:
            engine = self._engines.by_graph[graph]
            assert isinstance(engine, TensorRtEngine)
            context = engine.context(recorded=self._use_graphs)
            context.set_lengths({STREAMS: count})
            if graph == "frame":
                for name, memory in self._staged.items():
                    context.bind(name, memory.address)
                for name in _DOWNLOADED:
                    context.bind(name, self._outputs.address(name))
            self._contexts[graph, count] = context
        return context

    # ------------------------------------------------------------------------------- a frame

    def frame(
        self, rows: range, images: Sequence[NDArray[np.uint8]], valid: Sequence[NDArray[np.bool_]]
    ) -> list[FrameResult]:
        """Run the frame engine for a frame of each row; done when it returns."""
        count = len(rows)
        self._stopwatch.reset()
        with self._device.current():
            with self._stopwatch.timed("upload", self._stream):
                for name, values in zip(_UPLOADED, (images, valid), strict=True):
                    pinned = self._pinned[name][:count]
                    pinned[...] = values
                    self._device.upload(self._staged[name].address, pinned, self._stream)
            self._run("frame", rows, {name: self._address(name, rows.start) for name in _KEPT})
            with self._stopwatch.timed("download", self._stream):
                self._outputs.download(self._device, self._stream)
            self._stream.wait()
        self._frame_rows = rows
        outputs = [self._outputs.array(name) for name in FrameResult._fields]
        return [FrameResult(*(output[at] for output in outputs)) for at in range(count)]

    def store(self, rows: range, slots: Sequence[int]) -> None:
        """Give the memory engine's work to the device, for the newest frame of each row."""
        features = {"features": self._address("features", rows.start)}
        with self._device.current():
            if len(rows) == 1:  # straight into its slot
                value = self._slot_address("memory_value", rows.start, slots[0])
                self._run("memory", rows, features | {"value": value}, slots[0])
            else:
                self._run("memory", rows, features | {"value": self._values.address})
            for at, (row, slot) in enumerate(zip(rows, slots, strict=True)):
                key = self._outputs.address("key") + at * self._slot_bytes("memory_key")
                self._copy_into_slot("memory_key", row, slot, key)
                if len(rows) > 1:
                    value = self._values.address + at * self._slot_bytes("memory_value")
                    self._copy_into_slot("memory_value", row, slot, value)

    def decode(self, row: int, cell: Ints) -> DecodedMasks:
        """Run the decode engine for some cells of a row; done when it returns."""
        kernels = self._outputs.array("kernels")[self._staged_place(row)]
        parts = []
        with self._device.current():
            self._decode.bind("mask_features", self._address("mask_features", row))
            for begin in range(0, len(cell), DECODE_LIMIT):
                parts.append(self._decode_part(kernels[:, cell[begin : begin + DECODE_LIMIT]].T))
        masks = parts[0].masks
        if len(parts) > 1:
            masks = np.concatenate([part.masks for part in parts])
        return join_parts(parts, masks)

    def _decode_part(self, kernels: Array) -> DecodedMasks:
        device, stream, count = self._device, self._stream, len(kernels)
        pinned = self._pinned_kernels[:count]
        np.copyto(pinned, kernels)
        device.upload(self._kernels.address, pinned, stream)
        self._decode.set_lengths({MASKS: count})
        with self._stopwatch.timed("decode graph", stream):
            self._decode.run(stream)
        with self._stopwatch.timed("download", stream):
            device.download(self._pinned_masks[:count], self._masks.address, stream)
            self._counts.download(device, stream)
        stream.wait()
        area, probability_sum, pairs = (self._counts.array(name) for name in _COUNTS)
        return DecodedMasks(
            self._pinned_masks[:count].copy(),
            area[:count].copy(),
            probability_sum[:count].copy(),
            pairs.ravel()[: count * count].reshape(count, count).copy(),
        )

    def _run(
        self, graph: GraphName, rows: range, addresses: dict[str, int], slot: int = -1
    ) -> None:
        """Run an engine on some rows, recorded for these addresses where that is allowed."""
        recorded = self._graphs.get((graph, rows, slot))
        with self._stopwatch.timed(f"{graph} graph", self._stream):
            if recorded is not None:
                recorded.launch(self._stream)
                return
            context = self._context(graph, len(rows))
            for name, address in addresses.items():
                context.bind(name, address)
            context.run(self._stream)
        # An engine allocates when it first runs; only after that can it be recorded.
        if self._use_graphs:
            self._record(context, (graph, rows, slot))

    def _record(self, context: TensorRtContext, key: tuple[GraphName, range, int]) -> None:
        """Record what has just been done once plainly. Where that fails all goes on plainly."""
        try:
            if not context.can_be_recorded(self._stream):
                raise VisoloError("the library says that its work cannot be recorded")
            self._graphs[key] = self._device.capture(
                self._stream, lambda: context.run(self._stream)
            )
        except VisoloError as error:
            self._use_graphs = False
            _LOG.warning(
                "the %s graph is not recorded and costs more each frame: %s", key[0], str(error)
            )  # its words: it holds on to these buffers itself

    def warm_up(self) -> None:
        """Each graph once, on a black image: kernels are compiled and memory is set aside now."""
        rows, black = range(1), np.zeros((*self.input_size, 3), np.uint8)
        self.frame(rows, [black], [np.arange(self.slots + 1) == self.slots])
        self.store(rows, [0])
        self.decode(0, np.zeros(1, np.int64))

    def device_ms(self) -> dict[str, float]:
        """By events on the device's stream."""
        with self._device.current():
            return self._stopwatch.milliseconds()

    # -------------------------------------------------------------------- for verification

    def read(self, name: str, row: int = 0) -> Array:
        """A copy, by way of the host."""
        with self._device.current():
            values = self._device.pinned(self._shape(name), self.specs[name].dtype)
            self._device.download(values, self._address(name, row), self._stream)
            self._stream.wait()
        return values

    def write(self, name: str, values: Array, row: int = 0) -> None:
        """By way of the host."""
        with self._device.current():
            source = self._device.pinned(self._shape(name), self.specs[name].dtype)
            np.copyto(source, values)
            self._device.upload(self._address(name, row), source, self._stream)
            if name in _DOWNLOADED:
                self._outputs.download(self._device, self._stream)
            self._stream.wait()

    # --------------------------------------------------------------------------- addresses

    def _address(self, name: str, row: int) -> int:
        """Where a row of a tensor of the frame graph lies."""
        if name in _KEPT:
            return self._kept[name].address + row * self._strides[name]
        staged = self._outputs.address(name) if name in _DOWNLOADED else self._staged[name].address
        return staged + self._staged_place(row) * self._row_bytes(name)

    def _staged_place(self, row: int) -> int:
        """Where a row of the last call of :meth:`frame` is staged."""
        if not self._frame_rows:  # before the first one, for those who write inputs
            return 0
        return self._frame_rows.index(row)

    def _slot_address(self, name: str, row: int, slot: int) -> int:
        return self._address(name, row) + slot * self._slot_bytes(name)

    def _copy_into_slot(self, name: str, row: int, slot: int, source: int) -> None:
        target = self._slot_address(name, row, slot)
        self._device.copy(target, source, self._slot_bytes(name), self._stream)

    def _slot_bytes(self, name: str) -> int:
        return self._row_bytes(name) // self.slots

    def _row_bytes(self, name: str) -> int:
        return _bytes(self._shape(name), self.specs[name].dtype)

    def _shape(self, name: str, rows: int = 1) -> tuple[int, ...]:
        return (rows, *self.specs[name].sized({STREAMS: rows})[1:])


class _Block:
    """Tensors of float32 that lie one behind the other, to be downloaded in one go."""

    def __init__(
        self,
        device: Device,
        allocate: Callable[[int], DeviceMemory],
        shapes: dict[str, tuple[int, ...]],
    ) -> None:
        self._shapes = shapes
        self._offsets: dict[str, int] = {}
        end = 0
        for name, shape in shapes.items():
            self._offsets[name] = end
            end += _aligned(_bytes(shape, "float32"))
        self._memory = allocate(end)
        self._pinned = device.pinned((end // 4,), "float32")

    def address(self, name: str) -> int:
        """On the device."""
        return self._memory.address + self._offsets[name]

    def array(self, name: str) -> Array:
        """What was downloaded last."""
        first, shape = self._offsets[name] // 4, self._shapes[name]
        return self._pinned[first : first + prod(shape)].reshape(shape)

    def download(self, device: Device, stream: CudaStream) -> None:
        """All of it."""
        device.download(self._pinned, self._memory.address, stream)


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _bytes(shape: tuple[int, ...], dtype: str) -> int:
    return prod(shape) * np.dtype(dtype).itemsize
