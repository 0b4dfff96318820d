"""Engines whose buffers lie in host memory, of one stream or of several side by side.

A memory slot is contiguous, so the memory engine writes a frame's value straight into it. The
streams' buffers are the rows of one array each, so that neighbours go through together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visolo_core.contract import GRAPHS, GraphName, GraphSpec
from visolo_core.decoding import Floats, Ints
from visolo_runtime.chain import (
    DECODE_LIMIT,
    Chain,
    ChainGroup,
    DecodedMasks,
    FrameResult,
    StreamEngines,
    join_intersections,
)
from visolo_runtime.engine import Array, Backend, Context, Engine


@dataclass(frozen=True)
class Engines(StreamEngines):
    """Graphs compiled by a backend whose buffers lie in host memory."""

    backend: Backend
    contract: dict[GraphName, GraphSpec]
    engines: dict[GraphName, Engine]
    batch: int
    """Streams that can go through the frame and memory graphs together."""

    @classmethod
    def compile(
        cls, backend: Backend, contract: dict[GraphName, GraphSpec], batch: int = 1
    ) -> Engines:
        """Compile all graphs of a contract.

        Args:
            backend: compiles them.
            contract: of the graphs.
            batch: that the contract was made for.
        """
        compiled = {graph: backend.engine(graph, contract[graph]) for graph in GRAPHS}
        engines = cls(backend, contract, compiled, batch)
        engines.group(1).warm_up()
        return engines

    @property
    def description(self) -> str:
        """Of the backend."""
        return self.backend.description

    def chain(self) -> Chain:
        """Buffers and bindings for one more stream."""
        return self.group(1).chains[0]

    def group(self, streams: int) -> EngineGroup:
        """Streams whose buffers lie side by side, so that neighbours can go through together."""
        return EngineGroup(self, streams)


class EngineGroup(ChainGroup):
    """Engines and the buffers of so many streams, each a row of every buffer.

    Args:
        engines: compiled graphs.
        streams: rows.
    """

    def __init__(self, engines: Engines, streams: int) -> None:
        self.batch = engines.batch
        self._frame_context = engines.engines["frame"].context()
        self._memory_context = engines.engines["memory"].context()
        self._frame_spec = engines.contract["frame"]
        tensors = (*self._frame_spec.inputs, *self._frame_spec.outputs)
        self.buffers: dict[str, Array] = {
            spec.name: engines.backend.allocate(spec, streams) for spec in tensors
        }
        (value,) = engines.contract["memory"].outputs
        self._values = engines.backend.allocate(value, min(streams, engines.batch))
        self._bound = slice(0, 0)
        super().__init__(
            [EngineChain(self, row, engines.engines["decode"].context()) for row in range(streams)]
        )

    def frame(
        self, first: int, images: Sequence[NDArray[np.uint8]], valid: Sequence[NDArray[np.bool_]]
    ) -> list[FrameResult]:
        """Run the network on a frame of each of some neighbouring streams, ``batch`` at most."""
        rows = slice(first, first + len(images))
        for row, image, flags in zip(range(first, rows.stop), images, valid, strict=True):
            self.buffers["image"][row] = image
            self.buffers["memory_valid"][row] = flags
        self._bind(rows)
        self._frame_context.run()
        outputs = [self.buffers[name] for name in FrameResult._fields]
        return [
            FrameResult(*(output[row] for output in outputs)) for row in range(first, rows.stop)
        ]

    def store(self, first: int, slots: Sequence[int]) -> None:
        """Put the frames that were run last into a slot of each stream, ``batch`` at most."""
        rows = slice(first, first + len(slots))
        keys, values = self.buffers["memory_key"], self.buffers["memory_value"]
        self._bind(rows)
        if len(slots) == 1:  # straight into its slot
            self._memory_context.bind_output("value", values[rows, slots[0]])
            self._memory_context.run()
        else:
            made = self._values[: len(slots)]
            self._memory_context.bind_output("value", made)
            self._memory_context.run()
            values[range(first, rows.stop), slots] = made
        keys[range(first, rows.stop), slots] = self.buffers["key"][rows]

    def warm_up(self) -> None:
        """Decode as many masks as ever go into the engine at once.

        Inference libraries set memory aside by the largest request so far. Made before the first
        frame, that request no longer looks like growth in the middle of a video.
        """
        limit = min(DECODE_LIMIT, self.buffers["kernels"].shape[2])
        for count in (limit, limit, (limit + 1) // 2):
            self.chains[0].decode(np.arange(count))

    def _bind(self, rows: slice) -> None:
        if rows == self._bound:
            return
        for name in self._frame_spec.names("inputs"):
            self._frame_context.bind_input(name, self.buffers[name][rows])
        for name in self._frame_spec.names("outputs"):
            self._frame_context.bind_output(name, self.buffers[name][rows])
        self._memory_context.bind_input("features", self.buffers["features"][rows])
        self._bound = rows


class EngineChain(Chain):
    """One stream of a group.

    Args:
        group: with the buffers.
        row: of this stream in them.
        decode: this stream's use of the decode engine.
    """

    def __init__(self, group: EngineGroup, row: int, decode: Context) -> None:
        self._group, self._row = group, row
        self._buffers = {name: buffer[row : row + 1] for name, buffer in group.buffers.items()}
        self._decode = decode
        decode.bind_input("mask_features", self._buffers["mask_features"])
        depth, cells = self._buffers["kernels"].shape[1:]
        self._decoded = _DecodeBuffers(depth, cells, self.input_size)

    def read(self, name: str) -> Array:
        """The buffer itself."""
        return self._buffers[name]

    def write(self, name: str, values: Array) -> None:
        """Into the buffer."""
        np.copyto(self._buffers[name], values)

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the image that the frame engine takes."""
        height, width = self._buffers["image"].shape[1:3]
        return height, width

    @property
    def slots(self) -> int:
        """Number of memory slots T."""
        return int(self._buffers["memory_key"].shape[1])

    def frame(self, image: NDArray[np.uint8], valid: NDArray[np.bool_]) -> FrameResult:
        """Run the network on a frame.

        Args:
            image: uint8 [H, W, 3] RGB at the input size.
            valid: bool [T + 1], the slots to read; the last is the frame itself.
        """
        return self._group.frame(self._row, [image], [valid])[0]

    def store(self, slot: int) -> None:
        """Put the frame that was run last into a slot."""
        self._group.store(self._row, [slot])

    def decode(self, cell: Ints) -> DecodedMasks:
        """Masks of cells int64 [N], N at least 1, of the frame that was run last."""
        parts = []
        for begin in range(0, len(cell), DECODE_LIMIT):
            span = slice(begin, min(begin + DECODE_LIMIT, len(cell)))
            parts.append(self._decode_part(cell[span], span))
        if len(parts) == 1:
            return parts[0]
        return DecodedMasks(
            self._decoded.masks[: len(cell)],
            np.concatenate([part.area for part in parts]),
            np.concatenate([part.probability_sum for part in parts]),
            join_intersections(parts),
        )

    def _decode_part(self, cell: Ints, span: slice) -> DecodedMasks:
        decode = self._decode
        kernels, outputs = self._decoded.views(span)
        np.copyto(kernels, self._buffers["kernels"][0][:, cell].T)
        decode.bind_input("kernels", kernels)
        for name in DecodedMasks._fields:
            decode.bind_output(name, getattr(outputs, name))
        decode.run()
        return outputs


class _DecodeBuffers:
    """Room for the masks of every cell. Pages that no frame has needed cost nothing."""

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
