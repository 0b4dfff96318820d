"""The three engines of one stream and the buffers between them.

Mask features, kernels, features to store and the memory stay where the engines work; what the
host needs for choosing and association comes out small. A memory slot is contiguous, so the
memory engine writes a frame's value straight into it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from visolo_core.contract import GRAPHS, GraphName, GraphSpec
from visolo_core.decoding import Floats, Ints
from visolo_runtime.engine import Array, Backend, Engine


@dataclass(frozen=True)
class Engines:
    """The compiled graphs of a model, shared by its sessions."""

    backend: Backend
    contract: dict[GraphName, GraphSpec]
    engines: dict[GraphName, Engine]

    @classmethod
    def compile(cls, backend: Backend, contract: dict[GraphName, GraphSpec]) -> Engines:
        """Compile all graphs of a contract."""
        return cls(
            backend, contract, {graph: backend.engine(graph, contract[graph]) for graph in GRAPHS}
        )


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


class EngineChain:
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
        self._decoded = _DecodeBuffers(*self._buffers["kernels"].shape[1:], self.input_size)

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
        decode = self._contexts["decode"]
        kernels, outputs = self._decoded.views(len(cell))
        np.copyto(kernels, self._buffers["kernels"][0][:, cell].T)
        decode.bind_input("kernels", kernels)
        for name, view in zip(DecodedMasks._fields, outputs, strict=True):
            decode.bind_output(name, view)
        decode.run()
        return outputs


class _DecodeBuffers:
    """Room for the masks of every cell. Pages that no frame has needed cost nothing."""

    def __init__(self, depth: int, cells: int, size: tuple[int, int]) -> None:
        self._kernels = np.empty((cells, depth), np.float32)
        self._masks = np.empty((cells, *size), np.uint8)
        self._area = np.empty(cells, np.float32)
        self._probability_sum = np.empty(cells, np.float32)
        self._intersection = np.empty(cells * cells, np.float32)

    def views(self, count: int) -> tuple[Floats, DecodedMasks]:
        """Contiguous parts of the buffers for so many masks."""
        return self._kernels[:count], DecodedMasks(
            self._masks[:count],
            self._area[:count],
            self._probability_sum[:count],
            self._intersection[: count * count].reshape(count, count),
        )
