"""Buffers in host memory, and the backends whose engines work there.

A memory slot is contiguous, so the memory engine writes a frame's value straight into it. Each
tensor is one array with a row per stream, so that neighbouring streams go through the graphs
together.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from visolo_core.contract import STREAMS, GraphName, GraphSpec
from visolo_core.decoding import Candidates, Floats, Ints
from visolo_runtime.engines.buffers import (
    CELL_OUTPUTS,
    DECODE_LIMIT,
    DECODE_OUTPUTS,
    FRAME_INPUTS,
    Array,
    Buffers,
    DecodedMasks,
    FrameInput,
    Storage,
    as_candidates,
    join_parts,
    neighbouring_rows,
)
from visolo_runtime.engines.engine import Backend, Engine, Engines

_CHOSEN_KERNELS = ("decode", "kernels")


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
        self._contexts: dict[GraphName, HostContext] = {
            graph: engine.context() for graph, engine in engines.by_graph.items()
        }
        self._tensors: dict[str, Array] = {
            name: np.zeros((rows, *spec.sized({STREAMS: 1})[1:]), spec.dtype)
            for name, spec in self.specs.items()
        }
        self._contract = engines.contract
        (value,) = engines.contract["memory"].outputs
        self._values = np.zeros((self.batch, *value.sized({STREAMS: 1})[1:]), value.dtype)
        depth, cells = self._tensors["kernels"].shape[1:]
        self._masks = _MaskBuffers(depth, self.batch * cells, self.input_size)
        self._rows = range(0)
        """Rows of the last frame."""
        self._decoded = 0
        """Masks of that frame that are decoded."""
        self._decodes_to = range(0)
        """Masks that the decode graph's context is bound to."""
        self._bound: dict[GraphName, range] = {}
        """Rows that each context is bound to."""

    def submit(self, rows: range, inputs: Sequence[FrameInput]) -> None:
        """Copy the inputs; :meth:`frame` computes."""
        for row, each in zip(rows, inputs, strict=True):
            for name in FRAME_INPUTS:
                self._tensors[name][row] = getattr(each, name)
        self._rows = rows

    def frame(self) -> list[Candidates]:
        """Run the frame graph."""
        self._run("frame", self._rows)
        self._decoded = 0
        candidates = []
        for row in self._rows:
            count, *cells = (self._tensors[name][row] for name in CELL_OUTPUTS)
            threshold = float(self._tensors["score_threshold"][row])
            candidates.append(as_candidates(self, row, int(count), cells, threshold))
        return candidates

    def mask(self, rows: Sequence[int]) -> None:
        """Run the mask graph, for neighbouring rows together."""
        for run in neighbouring_rows(rows):
            self._run("mask", run)

    def decode(self, row: int, cell: Ints) -> DecodedMasks:
        """Run the decode graph for some cells of a row."""
        self._bind("decode", range(row, row + 1))
        decode, kernels = self._contexts["decode"], self._tensors["kernels"][row]
        # Who decodes more of a frame than its cells, as benchmarks do, begins anew.
        first = self._decoded if self._decoded + len(cell) <= len(self._masks.masks) else 0
        self._decoded, parts = first + len(cell), []
        for begin in range(0, len(cell), DECODE_LIMIT):
            some = cell[begin : begin + DECODE_LIMIT]
            chosen, outputs = self._masks.views(first + begin, len(some))
            np.copyto(chosen, kernels[:, some].T)
            masks = range(first + begin, first + begin + len(some))
            if masks != self._decodes_to:
                decode.bind_input("kernels", chosen)
                for name in DECODE_OUTPUTS:
                    decode.bind_output(name, getattr(outputs, name))
                self._decodes_to = masks
            decode.run()
            parts.append(outputs)
        return join_parts(parts, self._masks.masks[first : self._decoded])

    def store(self, rows: range, storage: Sequence[Storage]) -> None:
        """Run the memory graph for the current frame of each row and store it in a slot."""
        keys, values, recent, key = (
            self._tensors[name] for name in ("memory_key", "memory_value", "recent_key", "key")
        )
        slots = [each.slot for each in storage if each.slot is not None]
        memory = self._contexts["memory"]
        if slots and len(rows) == 1:  # written straight into its slot
            memory.bind_output("value", values[rows.start : rows.stop, slots[0]])
            self._run("memory", rows)
        elif slots:  # either every stream has a memory or none does
            computed = self._values[: len(rows)]
            memory.bind_output("value", computed)
            self._run("memory", rows)
            values[rows, slots] = computed
        for row, each in zip(rows, storage, strict=True):
            if each.slot is not None:
                keys[row, each.slot] = key[row]
            if each.keeps_previous:
                recent[row, 1] = recent[row, 0]
            recent[row, 0] = key[row]

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
        self._run("mask", range(1))
        limit = min(DECODE_LIMIT, self._tensors["kernels"].shape[2])
        for count in (limit, limit, (limit + 1) // 2):
            self.decode(0, np.arange(count))

    def _run(self, graph: GraphName, rows: range) -> None:
        self._bind(graph, rows)
        self._contexts[graph].run()

    def _bind(self, graph: GraphName, rows: range) -> None:
        """Bind a context to rows of all its tensors that have rows."""
        if rows == self._bound.get(graph):
            return
        context, spec = self._contexts[graph], self._contract[graph]
        span = slice(rows.start, rows.stop)
        for name in self._by_row(graph, spec.names("inputs")):
            context.bind_input(name, self._tensors[name][span])
        for name in self._by_row(graph, spec.names("outputs")):
            context.bind_output(name, self._tensors[name][span])
        self._bound[graph] = rows

    def _by_row(self, graph: GraphName, names: list[str]) -> list[str]:
        """Those of a graph's tensors that have a row per stream; of the decode graph, only the mask
        features have."""
        return [name for name in names if name in self.specs and (graph, name) != _CHOSEN_KERNELS]


class _MaskBuffers:
    """Space for so many masks. Pages that were never written take no memory."""

    def __init__(self, depth: int, cells: int, size: tuple[int, int]) -> None:
        self.masks = np.empty((cells, *size), np.uint8)
        self._kernels = np.empty((cells, depth), np.float32)
        self._area = np.empty(cells, np.float32)
        self._probability_sum = np.empty(cells, np.float32)
        self._intersections = np.empty(cells * DECODE_LIMIT, np.float32)

    def views(self, first: int, count: int) -> tuple[Floats, DecodedMasks]:
        """Contiguous parts of the buffers for some of the masks, at most ``DECODE_LIMIT``."""
        span = slice(first, first + count)
        begin = first * DECODE_LIMIT
        pairs = self._intersections[begin : begin + count * count].reshape(count, count)
        return self._kernels[span], DecodedMasks(
            self.masks[span], self._area[span], self._probability_sum[span], pairs
        )
