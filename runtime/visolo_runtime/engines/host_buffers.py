"""Buffers in host memory, and the backends whose engines work there.

A memory slot is contiguous, so the memory engine writes a frame's value straight into it. Each
tensor is one array with a row per stream, so that neighbouring streams go through the graphs
together.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from visolo_core.contract import STREAMS, GraphName, GraphSpec
from visolo_core.decoding import Floats, Ints
from visolo_runtime.engines.buffers import (
    DECODE_LIMIT,
    Array,
    Buffers,
    DecodedMasks,
    FrameResult,
    join_parts,
)
from visolo_runtime.engines.engine import Backend, Engine, Engines


class HostContext(ABC):
    """A context whose tensors are in host memory."""

    @abstractmethod
    def bind_input(self, name: str, buffer: Array) -> None:
        """Read the input ``name`` from ``buffer``, contiguous, of the input's type and shape."""

    @abstractmethod
    def bind_output(self, name: str, buffer: Array) -> None:
        """Write the output ``name`` to ``buffer``, contiguous, of the output's type and shape."""

    @abstractmethod
    def run(self) -> None:
        """Compute all outputs from the bound inputs and wait for them."""


class HostBackend(Backend):
    """A backend whose engines read and write host memory."""

    @abstractmethod
    def engine(self, graph: GraphName, spec: GraphSpec) -> Engine[HostContext]:
        """Compile a graph."""

    def buffers(self, engines: Engines, rows: int) -> HostBuffers:
        """Buffers of NumPy arrays."""
        return HostBuffers(engines, rows)


class HostBuffers(Buffers):
    """NumPy arrays with a row per stream, and the contexts bound to them.

    Args:
        engines: compiled graphs.
        rows: number of streams.
    """

    def __init__(self, engines: Engines, rows: int) -> None:
        super().__init__(engines.contract, rows, engines.batch)
        self._frame: HostContext = engines.by_graph["frame"].context()
        self._memory: HostContext = engines.by_graph["memory"].context()
        self._decode: HostContext = engines.by_graph["decode"].context()
        self._inputs = engines.contract["frame"].names("inputs")
        self._tensors: dict[str, Array] = {
            name: np.zeros((rows, *spec.sized({STREAMS: 1})[1:]), spec.dtype)
            for name, spec in self.specs.items()
        }
        (value,) = engines.contract["memory"].outputs
        self._values = np.zeros((self.batch, *value.sized({STREAMS: 1})[1:]), value.dtype)
        depth, cells = self._tensors["kernels"].shape[1:]
        self._masks = _MaskBuffers(depth, cells, self.input_size)
        self._bound = range(0)
        """Rows that the frame and memory contexts are bound to."""
        self._decoded_row = -1
        """Row that the decode context is bound to; -1 for none."""

    def frame(
        self, rows: range, images: Sequence[NDArray[np.uint8]], valid: Sequence[NDArray[np.bool_]]
    ) -> list[FrameResult]:
        """Run the frame graph for a frame of each row."""
        for row, image, flags in zip(rows, images, valid, strict=True):
            self._tensors["image"][row] = image
            self._tensors["memory_valid"][row] = flags
        self._bind(rows)
        self._frame.run()
        outputs = [self._tensors[name] for name in FrameResult._fields]
        return [FrameResult(*(output[row] for output in outputs)) for row in rows]

    def decode(self, row: int, cell: Ints) -> DecodedMasks:
        """Run the decode graph for some cells of a row."""
        if row != self._decoded_row:
            self._decode.bind_input("mask_features", self._tensors["mask_features"][row : row + 1])
            self._decoded_row = row
        kernels = self._tensors["kernels"][row]
        parts = []
        for begin in range(0, len(cell), DECODE_LIMIT):
            span = slice(begin, min(begin + DECODE_LIMIT, len(cell)))
            chosen, outputs = self._masks.views(span)
            np.copyto(chosen, kernels[:, cell[span]].T)
            self._decode.bind_input("kernels", chosen)
            for name in DecodedMasks._fields:
                self._decode.bind_output(name, getattr(outputs, name))
            self._decode.run()
            parts.append(outputs)
        return join_parts(parts, self._masks.masks[: len(cell)])

    def store(self, rows: range, slots: Sequence[int]) -> None:
        """Run the memory graph for the current frame of each row and store it in a slot."""
        keys, values = self._tensors["memory_key"], self._tensors["memory_value"]
        self._bind(rows)
        if len(rows) == 1:  # written straight into its slot
            row, slot = rows[0], slots[0]
            self._memory.bind_output("value", values[row : row + 1, slot])
            self._memory.run()
        else:
            computed = self._values[: len(rows)]
            self._memory.bind_output("value", computed)
            self._memory.run()
            values[rows, slots] = computed
        keys[rows, slots] = self._tensors["key"][rows.start : rows.stop]

    def read(self, name: str, row: int = 0) -> Array:
        """The array itself, not a copy."""
        return self._tensors[name][row : row + 1]

    def write(self, name: str, values: Array, row: int = 0) -> None:
        """Copy ``values`` into the array."""
        np.copyto(self._tensors[name][row : row + 1], values)

    def warm_up(self) -> None:
        """Decode the largest number of masks that ever goes through the engine at once.

        Inference libraries keep as much memory as the largest request so far needed. Making that
        request before the first frame keeps memory constant during the video.
        """
        limit = min(DECODE_LIMIT, self._tensors["kernels"].shape[2])
        for count in (limit, limit, (limit + 1) // 2):
            self.decode(0, np.arange(count))

    def _bind(self, rows: range) -> None:
        if rows == self._bound:
            return
        span = slice(rows.start, rows.stop)
        for name, tensor in self._tensors.items():
            bind = self._frame.bind_input if name in self._inputs else self._frame.bind_output
            bind(name, tensor[span])
        self._memory.bind_input("features", self._tensors["features"][span])
        self._bound = rows


class _MaskBuffers:
    """Space for the masks of every cell. Pages that were never written take no memory."""

    def __init__(self, depth: int, cells: int, size: tuple[int, int]) -> None:
        self.masks = np.empty((cells, *size), np.uint8)
        self._kernels = np.empty((cells, depth), np.float32)
        self._area = np.empty(cells, np.float32)
        self._probability_sum = np.empty(cells, np.float32)
        self._intersections = np.empty(cells * DECODE_LIMIT, np.float32)

    def views(self, span: slice) -> tuple[Floats, DecodedMasks]:
        """Contiguous parts of the buffers for some of the masks, at most ``DECODE_LIMIT``."""
        count = span.stop - span.start
        first = span.start * DECODE_LIMIT
        pairs = self._intersections[first : first + count * count].reshape(count, count)
        return self._kernels[span], DecodedMasks(
            self.masks[span], self._area[span], self._probability_sum[span], pairs
        )
