"""What sessions work in: a row of every tensor for each stream, and the graphs over rows.

One stream is a group of one: it uses one row, several streams use one row each, and both call the
same methods. Features, mask features and the memory stay where the engines work; only what is known
about the chosen cells and their masks comes to the host.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from visolo_core.contract import GraphName, GraphSpec
from visolo_core.decoding import Candidates, Floats, Ints, choose_cells, grid_weight
from visolo_core.errors import VisoloError
from visolo_runtime.engines.blas import one_thread
from visolo_runtime.engines.device_array import DeviceArray
from visolo_runtime.engines.raw_frame import RawFrame

Array = NDArray[Any]
DECODE_LIMIT = 32
"""Masks that go through the decode graph at once. It limits the engine's working memory, about 4 MB
per mask at 352x624; frames with more cells take several runs."""
FIXED_COUNTS = (8, 16, DECODE_LIMIT)
"""Numbers of masks that the decode graph computes on a device, where a shape that was seen before
costs less than a few masks that nobody needs."""
KEPT = ("memory_key", "memory_value", "recent_key")
"""Inputs of the frame graph that a row keeps from frame to frame."""
STAGE_OUTPUTS = ("res2", "res3", "res4")
"""Outputs of the frame graph that the mask graph reads."""
CELL_OUTPUTS = ("count", "cell", "cell_score", "cell_classes", "cell_query", "cell_key")
"""Outputs of the frame graph that the host reads of every frame."""
DECODE_OUTPUTS = ("masks", "area", "probability_sum", "intersection")
"""Outputs of the decode graph."""
COUNT_OUTPUTS = DECODE_OUTPUTS[1:]
"""Those of them that are no masks."""


@dataclass(frozen=True)
class FrameInput:
    """What the host gives to the frame graph for one row."""

    image: NDArray[np.uint8] | RawFrame
    """uint8 [H, W, 3] RGB at the input size; or a frame as it came, where engines resize it"""
    memory_valid: NDArray[np.bool_]
    """bool [T + 1], the slots to read; the last is the frame itself"""
    recent_valid: NDArray[np.bool_]
    """bool [2], whether there is a previous frame and a kept frame before it"""
    score_threshold: float
    """in 0 to 1"""


@dataclass(frozen=True)
class Storage:
    """Where a row's current frame is stored."""

    slot: int | None
    """memory slot; None if the stream has no memory"""
    keeps_previous: bool
    """Whether the previous frame is the newest kept frame from now on: its key moves to the
    second place of ``recent_key`` before this frame's takes the first."""


FRAME_INPUTS = tuple(field.name for field in fields(FrameInput))
"""Inputs of the frame graph that the host gives, the image first."""


class DecodedMasks(NamedTuple):
    """Masks of N cells. The arrays belong to the buffers: the next call of :meth:`Buffers.frame`
    overwrites them."""

    masks: NDArray[np.uint8]
    """uint8 [N, H, W] of zeros and ones"""
    area: Floats
    """float32 [N], pixels of each mask"""
    probability_sum: Floats
    """float32 [N], sum of the probabilities inside the mask"""
    intersection: Floats
    """float32 [N, N], common pixels of each pair"""
    on_device: tuple[DeviceArray, ...] = ()
    """N masks uint8 [H, W] on the device, if they are handed out; they are nobody else's"""


class Buffers(ABC):
    """Tensors of one or more streams, a row each, wherever the engines work. Not thread-safe.

    Args:
        contract: of the graphs.
        rows: number of streams.
        batch: most neighbouring rows that go through the graphs together.
    """

    def __init__(self, contract: dict[GraphName, GraphSpec], rows: int, batch: int) -> None:
        frame, mask = contract["frame"], contract["mask"]
        tensors = (*frame.inputs, *frame.outputs, *mask.outputs)
        self.specs = {tensor.name: tensor for tensor in tensors}
        """Tensors of the frame graph and the mask features, by name."""
        self.rows, self.batch = rows, min(rows, batch)
        _, height, width, _ = self.specs["image"].shape
        self.input_size = int(height), int(width)
        """Height and width of the images."""
        self.slots = int(self.specs["memory_key"].shape[1])
        """Stored frames T that a frame can read."""
        self.places = int(self.specs["cell"].shape[1])
        """Cells K that the frame graph chooses."""
        self.resizes = False
        """Whether frames as they came are accepted; a device resizes them."""
        self.gpu: int | None = None
        """Index of the GPU that the engines work on."""
        self.computes_ahead = False
        """Whether a frame is computed while the host does something else after :meth:`submit`."""
        self.measured = False
        """Whether :meth:`device_ms` is going to be asked for: measuring makes a frame slower."""

    @abstractmethod
    def submit(self, rows: range, inputs: Sequence[FrameInput]) -> None:
        """Give a frame of each row to the engines.

        On a device it may be under way when this returns. Candidates and masks of the frame before
        stay valid until the next call of :meth:`frame`.

        Args:
            rows: neighbouring rows, at most ``batch`` of them.
            inputs: of each row.
        """

    @abstractmethod
    def frame(self) -> list[Candidates]:
        """The result of the frame graph for the rows of the last call of :meth:`submit`.

        Returns:
            the cells of each row whose masks are worth decoding. The arrays belong to the buffers:
            the next call overwrites them.
        """

    @abstractmethod
    def mask(self, rows: Sequence[int]) -> None:
        """Run the mask graph for the current frame of each row.

        Args:
            rows: some of those of the last frame, ascending: those with candidates.
        """

    @abstractmethod
    def decode(self, row: int, cell: Ints) -> DecodedMasks:
        """Run the decode graph for all candidates of a row's current frame.

        Args:
            row: it was part of the last call of :meth:`mask`.
            cell: int64 [N], N at least 1, as :meth:`frame` returned it.
        """

    @abstractmethod
    def store(self, rows: range, storage: Sequence[Storage]) -> None:
        """Run the memory graph for the current frame of each row and store it.

        The rows must be those of the last frame. Candidates and masks stay valid.
        """

    @abstractmethod
    def read(self, name: str, row: int = 0) -> Array:
        """The current values of one of ``specs``, [1, ...]; do not change them. Outputs are valid
        for the rows of the last frame, mask features for those with candidates."""

    @abstractmethod
    def write(self, name: str, values: Array, row: int = 0) -> None:
        """Overwrite one of ``specs`` with ``values`` [1, ...]."""

    def hand_out_masks(self) -> None:
        """From now on, give the masks on the device with each decode.

        Raises:
            VisoloError: if the engines' masks are in the host's memory.
        """
        raise VisoloError(
            "this backend has no masks on a GPU to hand out: leave device_masks out, or use a "
            "TensorRT backend, onnxruntime-tensorrt or onnxruntime-cuda"
        )

    def choose_from_all(self, row: int, score_threshold: float) -> Candidates:
        """The candidates of a row's current frame, from all outputs of the frame graph: for a frame
        with more of them than the graph has places."""
        scores, query, key = (self.read(name, row)[0] for name in ("scores", "query", "key"))
        recent = self.read("recent_key", row)[0]
        exists = self.read("recent_valid", row)[0]
        with one_thread():
            weight = grid_weight(query, [recent[at] for at in np.flatnonzero(exists)])
            return choose_cells(scores, weight, score_threshold, query, key)

    def device_ms(self) -> dict[str, float]:
        """Milliseconds that graphs and copies took since the last call of :meth:`submit`, by the
        device's clock: one entry per stage, such as ``frame graph`` or ``upload``. Waits for the
        device. Empty unless ``measured``, and where the host waits for every graph: its own clock
        will do.
        """
        return {}

    def warm_up(self) -> None:
        """Make the library allocate its largest working memory now rather than during a video."""
        return


def as_candidates(
    buffers: Buffers, row: int, count: int, cells: Sequence[Array], score_threshold: float
) -> Candidates:
    """The candidates of a row's frame.

    Args:
        buffers: with the outputs of the frame graph.
        row: of the frame.
        count: its number of candidates.
        cells: the row's ``CELL_OUTPUTS`` but ``count``.
        score_threshold: in 0 to 1.
    """
    if count > buffers.places:
        return buffers.choose_from_all(row, score_threshold)
    cell, *values = (each[:count] for each in cells)
    return Candidates(cell.astype(np.int64), *values)


def fixed_count(masks: int, limit: int) -> int:
    """How many masks a device computes where so many are needed, and at most ``limit``.

    >>> [fixed_count(masks, 32) for masks in (1, 8, 9, 17)], fixed_count(17, 18)
    ([8, 8, 16, 32], 18)
    """
    return next(min(count, limit) for count in FIXED_COUNTS if min(count, limit) >= masks)


def neighbouring_rows(rows: Sequence[int]) -> list[range]:
    """Ascending rows, neighbours together.

    >>> neighbouring_rows([0, 1, 3])
    [range(0, 2), range(3, 4)]
    """
    runs: list[range] = []
    for row in rows:
        if runs and runs[-1].stop == row:
            runs[-1] = range(runs[-1].start, row + 1)
        else:
            runs.append(range(row, row + 1))
    return runs


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
        tuple(mask for part in parts for mask in part.on_device),
    )


def _common_pixels(first: DecodedMasks, second: DecodedMasks) -> Floats:
    # Exact: float32 counts up to 16.7 million pixels without rounding.
    left, right = (
        part.masks.reshape(len(part.masks), -1).astype(np.float32) for part in (first, second)
    )
    with one_thread():
        return left @ right.T
