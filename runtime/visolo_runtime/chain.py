"""What a session asks of the engines: the three of a stream, or of several side by side.

Mask features, kernels, features to store and the memory stay where the engines work; what the
host needs for choosing and association comes out small. ``engine_chain`` has the chain whose
buffers lie in host memory, ``tensorrt_chain`` the one of a GPU.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from visolo_core.contract import GraphName, GraphSpec
from visolo_core.decoding import Floats, Ints
from visolo_runtime.blas import one_thread
from visolo_runtime.engine import Array

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

    def device_ms(self) -> dict[str, float]:
        """Milliseconds that graphs and copies of the last frame took, by the device's own clock and
        by stage: ``frame graph`` and so on, ``upload``, ``download``; waits for the device. Empty
        where the host waits for every graph, and its clock is right."""
        return {}

    @abstractmethod
    def read(self, name: str) -> Array:
        """A tensor of the frame graph as it is now, by its contract name; not to be changed."""

    @abstractmethod
    def write(self, name: str, values: Array) -> None:
        """Put other values into a tensor of the frame graph."""


class WrappedChain(Chain):
    """Another chain, for subclasses that watch what goes in or comes out."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain

    @property
    def input_size(self) -> tuple[int, int]:
        """Of the chain."""
        return self._chain.input_size

    @property
    def slots(self) -> int:
        """Of the chain."""
        return self._chain.slots

    def frame(self, image: NDArray[np.uint8], valid: NDArray[np.bool_]) -> FrameResult:
        """By the chain."""
        return self._chain.frame(image, valid)

    def store(self, slot: int) -> None:
        """By the chain."""
        self._chain.store(slot)

    def decode(self, cell: Ints) -> DecodedMasks:
        """By the chain."""
        return self._chain.decode(cell)

    def device_ms(self) -> dict[str, float]:
        """Of the chain."""
        return self._chain.device_ms()

    def read(self, name: str) -> Array:
        """From the chain."""
        return self._chain.read(name)

    def write(self, name: str, values: Array) -> None:
        """Into the chain."""
        self._chain.write(name, values)


class ChainGroup:
    """Chains of several streams.

    This one runs them in turn; others run the frame and memory graphs of several at once.

    Args:
        chains: one a stream.
    """

    batch = 1
    """Neighbouring streams that go through the graphs together, at most."""

    def __init__(self, chains: Sequence[Chain]) -> None:
        self.chains = tuple(chains)

    def frame(
        self, first: int, images: Sequence[NDArray[np.uint8]], valid: Sequence[NDArray[np.bool_]]
    ) -> list[FrameResult]:
        """Run the network on a frame of each of some neighbouring streams.

        Args:
            first: of the streams.
            images: of each stream, as for :meth:`Chain.frame`.
            valid: of each stream.
        """
        streams = self.chains[first : first + len(images)]
        inputs = zip(streams, images, valid, strict=True)
        return [chain.frame(image, flags) for chain, image, flags in inputs]

    def store(self, first: int, slots: Sequence[int]) -> None:
        """Put the frames that were run last into a slot of each stream."""
        for chain, slot in zip(self.chains[first : first + len(slots)], slots, strict=True):
            chain.store(slot)


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

    def group(self, streams: int) -> ChainGroup:
        """Buffers and bindings for several more streams."""
        return ChainGroup([self.chain() for _ in range(streams)])


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
