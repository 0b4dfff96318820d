"""What sessions work in: a row of every tensor for each stream, and the three graphs over rows.

A stream is a group of one. Whoever has one stream asks for one row, and whoever has several for as
many; both call the same three methods. Mask features, kernels, features to store and the memory
stay where the engines work; what the host needs for choosing and association comes out small.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from visolo_core.contract import GraphName, GraphSpec
from visolo_core.decoding import Floats, Ints
from visolo_runtime.engines.blas import one_thread

Array = NDArray[Any]
DECODE_LIMIT = 32
"""Masks that go through the decode graph at once. It bounds the engine's working memory, about 4 MB
a mask at 352x624; frames with more cells take several runs."""


class FrameResult(NamedTuple):
    """What the host sees of a frame. The arrays belong to the buffers: the next call of
    :meth:`Buffers.frame` overwrites them."""

    scores: Floats
    """float32 [C, S], class scores of the cells"""
    query: Floats
    """float32 [D/2, S]"""
    key: Floats
    """float32 [D/2, S]"""


class DecodedMasks(NamedTuple):
    """Masks of N cells. The arrays belong to the buffers: the next call of :meth:`Buffers.decode`
    overwrites them."""

    masks: NDArray[np.uint8]
    """uint8 [N, H, W] of zeros and ones"""
    area: Floats
    """float32 [N], pixels of each mask"""
    probability_sum: Floats
    """float32 [N], sum of the probabilities inside the mask"""
    intersection: Floats
    """float32 [N, N], common pixels of each pair"""


class Buffers(ABC):
    """Tensors of some streams, a row each, wherever the engines work. One thread at a time.

    Args:
        contract: of the graphs.
        rows: streams.
        batch: neighbouring rows that go through the frame and memory graphs together, at most.
    """

    def __init__(self, contract: dict[GraphName, GraphSpec], rows: int, batch: int) -> None:
        frame = contract["frame"]
        self.specs = {tensor.name: tensor for tensor in (*frame.inputs, *frame.outputs)}
        """Tensors of the frame graph, by name."""
        self.rows, self.batch = rows, min(rows, batch)
        _, height, width, _ = self.specs["image"].shape
        self.input_size = int(height), int(width)
        """Height and width of the images."""
        self.slots = int(self.specs["memory_key"].shape[1])
        """Stored frames T that a frame can read."""

    @abstractmethod
    def frame(
        self, rows: range, images: Sequence[NDArray[np.uint8]], valid: Sequence[NDArray[np.bool_]]
    ) -> list[FrameResult]:
        """Run the frame graph for a frame of each row.

        Args:
            rows: neighbours, ``batch`` of them at most.
            images: of each row, uint8 [H, W, 3] RGB at the input size.
            valid: of each row, bool [T + 1]: the slots to read; the last is the frame itself.
        """

    @abstractmethod
    def decode(self, row: int, cell: Ints) -> DecodedMasks:
        """Run the decode graph for cells int64 [N], N at least 1, of a row's newest frame.

        The row must have been part of the last call of :meth:`frame`.
        """

    @abstractmethod
    def store(self, rows: range, slots: Sequence[int]) -> None:
        """Run the memory graph for the newest frame of each row, into a slot of that row.

        The rows must be those of the last call of :meth:`frame`.
        """

    @abstractmethod
    def read(self, name: str, row: int = 0) -> Array:
        """A tensor of the frame graph as it is now, [1, ...], by its name; not to be changed.
        Outputs are there for rows of the last call of :meth:`frame`."""

    @abstractmethod
    def write(self, name: str, values: Array, row: int = 0) -> None:
        """Put other values, [1, ...], into a tensor of the frame graph."""

    def device_ms(self) -> dict[str, float]:
        """Milliseconds that graphs and copies took since the last call of :meth:`frame` began, by
        the device's own clock and by stage: ``frame graph`` and so on, ``upload``, ``download``;
        waits for the device. Empty where the host waits for every graph, and its clock is right.
        """
        return {}

    def warm_up(self) -> None:
        """Let the library set aside now what it will need most of, where it would grow later."""
        return


def join_parts(parts: Sequence[DecodedMasks], masks: NDArray[np.uint8]) -> DecodedMasks:
    """Masks that were decoded in several runs as one.

    Args:
        parts: of each run, none to be overwritten by another.
        masks: uint8 [N, H, W], those of all parts one after the other.
    """
    if len(parts) == 1:
        return parts[0]
    return DecodedMasks(
        masks,
        np.concatenate([part.area for part in parts]),
        np.concatenate([part.probability_sum for part in parts]),
        np.block(
            [
                [mine.intersection if mine is its else _common_pixels(mine, its) for its in parts]
                for mine in parts
            ]
        ),
    )


def _common_pixels(first: DecodedMasks, second: DecodedMasks) -> Floats:
    # Exact: float32 counts pixels up to 16.7 million one by one.
    left, right = (
        part.masks.reshape(len(part.masks), -1).astype(np.float32) for part in (first, second)
    )
    with one_thread():
        return left @ right.T
