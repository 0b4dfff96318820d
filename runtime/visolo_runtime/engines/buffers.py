"""What sessions work in: a row of every tensor for each stream, and the three graphs over rows.

One stream is a group of one: it uses one row, several streams use one row each, and both call the
same three methods. Mask features, kernels, features to store and the memory stay where the engines
work; only the small tensors that choosing and association need come to the host.
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
"""Masks that go through the decode graph at once. It limits the engine's working memory, about 4 MB
per mask at 352x624; frames with more cells take several runs."""


class FrameResult(NamedTuple):
    """The outputs of the frame graph that the host uses. The arrays belong to the buffers: the next
    call of :meth:`Buffers.frame` overwrites them."""

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
    """Tensors of one or more streams, a row each, wherever the engines work. Not thread-safe.

    Args:
        contract: of the graphs.
        rows: number of streams.
        batch: most neighbouring rows that go through the frame and memory graphs together.
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
            rows: neighbouring rows, at most ``batch`` of them.
            images: of each row, uint8 [H, W, 3] RGB at the input size.
            valid: of each row, bool [T + 1], the slots to read; the last is the frame itself.
        """

    @abstractmethod
    def decode(self, row: int, cell: Ints) -> DecodedMasks:
        """Run the decode graph for cells int64 [N], N at least 1, of a row's current frame.

        The row must have been part of the last call of :meth:`frame`.
        """

    @abstractmethod
    def store(self, rows: range, slots: Sequence[int]) -> None:
        """Run the memory graph for the current frame of each row and store it in a slot.

        The rows must be those of the last call of :meth:`frame`.
        """

    @abstractmethod
    def read(self, name: str, row: int = 0) -> Array:
        """The current values of a tensor of the frame graph, [1, ...]; do not change them. Outputs
        are valid for the rows of the last call of :meth:`frame`."""

    @abstractmethod
    def write(self, name: str, values: Array, row: int = 0) -> None:
        """Overwrite a tensor of the frame graph with ``values`` [1, ...]."""

    def device_ms(self) -> dict[str, float]:
        """Milliseconds that graphs and copies took since the last call of :meth:`frame` began, by
        the device's clock: one entry per stage, such as ``frame graph`` or ``upload``. Waits for
        the device. Empty where the host waits for every graph: its own clock will do.
        """
        return {}

    def warm_up(self) -> None:
        """Make the library allocate its largest working memory now rather than during a video."""
        return


def join_parts(parts: Sequence[DecodedMasks], masks: NDArray[np.uint8]) -> DecodedMasks:
    """Join masks that were decoded in several runs.

    Args:
        parts: one per run, each with arrays of its own.
        masks: uint8 [N, H, W], the masks of all parts in order.
    """
    if len(parts) == 1:
        return parts[0]
    return DecodedMasks(
        masks,
        np.concatenate([part.area for part in parts]),
        np.concatenate([part.probability_sum for part in parts]),
        np.block(
            [
                [
                    row.intersection if row is column else _common_pixels(row, column)
                    for column in parts
                ]
                for row in parts
            ]
        ),
    )


def _common_pixels(first: DecodedMasks, second: DecodedMasks) -> Floats:
    # Exact: float32 counts up to 16.7 million pixels without rounding.
    left, right = (
        part.masks.reshape(len(part.masks), -1).astype(np.float32) for part in (first, second)
    )
    with one_thread():
        return left @ right.T
