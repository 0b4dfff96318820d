"""The three engines of one stream and the buffers between them.

Mask features, kernels, features to store and the memory stay where the engines work; what the
host needs for choosing and association comes out small. A memory slot is contiguous, so the
memory engine writes a frame's value straight into it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from visolo_core.contract import GRAPHS, GraphName, GraphSpec
from visolo_core.decoding import Floats, Ints
from visolo_runtime.blas import one_thread
from visolo_runtime.engine import Array, Backend, Engine

DECODE_LIMIT = 32
"""Masks that go into the decode engine at once. It bounds the engine's working memory, about 4 MB
a mask at 352x624; frames with more cells take several runs."""


class FrameResult(NamedTuple):
    """What the host sees of a frame. The arrays are the chain's own: the next frame overwrites
    them."""

    scores: Floats
    """[C, S]"""
    query: Floats
    """[D/2, S]"""
    key: Floats
    """[D/2, S]"""


class DecodedMasks(NamedTuple):
    """Masks of the chosen cells. The arrays are the chain's own: the next frame overwrites them."""

    masks: NDArray[np.uint8]
    """[N, H, W] of zeros and ones"""
    area: Floats
    """[N], pixels"""
    probability_sum: Floats
    """[N], sum of the probabilities inside the mask"""
    intersection: Floats
    """[N, N], common pixels"""


class Chain(ABC):
    """Three engines at work on one stream, with its memory buffer; wherever they work."""

    @property
    @abstractmethod
    def input_size(self) -> tuple[int, int]:
        """Height and width of the image that the frame engine takes."""

    @property
    @abstractmethod
    def slots(self) -> int:
        """Number of memory slots T."""

    @abstractmethod
    def frame(self, image: NDArray[np.uint8], valid: NDArray[np.bool_]) -> FrameResult:
        """Run the network on a frame.

        Args:
            image: uint8 [H, W, 3] RGB at the input size.
            valid: bool [T + 1], the slots to read; the last is the frame itself.
        """

    @abstractmethod
    def store(self, slot: int) -> None:
        """Put the frame that was run last into a slot."""

    @abstractmethod
    def decode(self, cell: Ints) -> DecodedMasks:
        """Masks of cells int64 [N], N at least 1, of the frame that was run last."""

    @abstractmethod
    def read(self, name: str) -> Array:
        """A tensor of the frame graph as it is now, by its contract name; not to be changed."""

    @abstractmethod
    def write(self, name: str, values: Array) -> None:
        """Put other values into a tensor of the frame graph."""


class StreamEngines(ABC):
    """The compiled graphs of a model, shared by its sessions."""

    contract: dict[GraphName, GraphSpec]

    @property
    @abstractmethod
    def description(self) -> str:
        """Library, version and device, for people."""

    @abstractmethod
    def chain(self) -> Chain:
        """Buffers and bindings for one more stream."""


@dataclass(frozen=True)
class Engines(StreamEngines):
    """Graphs compiled by a backend whose buffers lie in host memory."""

    backend: Backend
    contract: dict[GraphName, GraphSpec]
    engines: dict[GraphName, Engine]

    @classmethod
    def compile(cls, backend: Backend, contract: dict[GraphName, GraphSpec]) -> Engines:
        """Compile all graphs of a contract."""
        compiled = {graph: backend.engine(graph, contract[graph]) for graph in GRAPHS}
        engines = cls(backend, contract, compiled)
        engines.chain().warm_up()
        return engines

    @property
    def description(self) -> str:
        """Of the backend."""
        return self.backend.description

    def chain(self) -> EngineChain:
        """Buffers and bindings for one more stream."""
        return EngineChain(self)


class EngineChain(Chain):
    """Frame, memory and decode engine of one stream, with its memory buffer.

    Args:
        engines: compiled graphs; their batch must be 1.
    """

    def __init__(self, engines: Engines) -> None:
        self._contexts = {name: engine.context() for name, engine in engines.engines.items()}
        specs = [
            tensor
            for graph in ("frame", "memory")
            for tensor in (*engines.contract[graph].inputs, *engines.contract[graph].outputs)
            if tensor.name != "value"  # goes into a slot
        ]
        self._buffers: dict[str, Array] = {
            spec.name: engines.backend.allocate(spec) for spec in specs
        }
        frame = engines.contract["frame"]
        for name in frame.names("inputs"):
            self._contexts["frame"].bind_input(name, self._buffers[name])
        for name in frame.names("outputs"):
            self._contexts["frame"].bind_output(name, self._buffers[name])
        self._contexts["memory"].bind_input("features", self._buffers["features"])
        decode = self._contexts["decode"]
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
        self._buffers["image"][0] = image
        self._buffers["memory_valid"][0] = valid
        self._contexts["frame"].run()
        return FrameResult(*(self._buffers[name][0] for name in ("scores", "query", "key")))

    def store(self, slot: int) -> None:
        """Put the frame that was run last into a slot."""
        self._buffers["memory_key"][:, slot] = self._buffers["key"]
        self._contexts["memory"].bind_output("value", self._buffers["memory_value"][:, slot])
        self._contexts["memory"].run()

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

    def warm_up(self) -> None:
        """Decode as many masks as ever go into the engine at once.

        Inference libraries set memory aside by the largest request so far. Made before the first
        frame, that request no longer looks like growth in the middle of a video.
        """
        limit = min(DECODE_LIMIT, self._buffers["kernels"].shape[2])
        for count in (limit, limit, (limit + 1) // 2):
            self.decode(np.arange(count))

    def _decode_part(self, cell: Ints, span: slice) -> DecodedMasks:
        decode = self._contexts["decode"]
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


def join_intersections(parts: list[DecodedMasks]) -> Floats:
    """Common pixels [N, N] of all pairs, where the engine has counted within each part only."""
    return np.block(
        [
            [own.intersection if own is other else _common_pixels(own, other) for other in parts]
            for own in parts
        ]
    )


def _common_pixels(first: DecodedMasks, second: DecodedMasks) -> Floats:
    # Exact: float32 counts pixels up to 16.7 million one by one.
    flat = (part.masks.reshape(len(part.masks), -1).astype(np.float32) for part in (first, second))
    left, right = flat
    with one_thread():
        return left @ right.T
