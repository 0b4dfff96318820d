"""Buffers on a device that ONNX Runtime computes on: everything dense stays there.

Images and a few flags go up in one block; what is known about the chosen cells comes down in
another, and of each decoding the masks of those cells with their counts. All else is bound to the
graphs by its address on the device, the memory graph's output to the slot's own.

The host waits once for the cells of a frame, and once for the masks of each row that has any:
work is given to one stream, so nothing else needs to wait (``device.py`` says why). A frame in
which nothing is found runs neither the mask graph nor the decode graph.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from visolo_core.decoding import Candidates, Ints
from visolo_runtime.engines.buffers import (
    CELL_OUTPUTS,
    COUNT_OUTPUTS,
    DECODE_LIMIT,
    FRAME_INPUTS,
    KEPT,
    Array,
    Buffers,
    DecodedMasks,
    FrameInput,
    Storage,
    as_candidates,
    fixed_count,
    join_parts,
    neighbouring_rows,
)
from visolo_runtime.engines.device_array import DeviceArray
from visolo_runtime.engines.dlpack import CPU, CUDA
from visolo_runtime.engines.engine import Engines
from visolo_runtime.engines.onnxruntime.workplace import Workplace


class OrtDeviceBuffers(Buffers):
    """Rows in a workplace.

    Args:
        engines: on its device.
        rows: number of streams.
        workplace: with as many rows, which nobody else uses.
        leave: called with the workplace when these buffers are dropped.
    """

    def __init__(
        self,
        engines: Engines,
        rows: int,
        workplace: Workplace,
        leave: Callable[[Workplace], None],
    ) -> None:
        super().__init__(engines.contract, rows, workplace.tensors.batch)
        self._workplace, self._tensors = workplace, workplace.tensors
        self._device = workplace.device
        if self._device.kind == "cuda":
            self.gpu, self.computes_ahead = self._device.index, True
        self._tensors.clear()
        self._rows = range(0)
        """Rows of the last frame."""
        self._thresholds: list[float] = []
        self._overwritten = False
        """Whether :meth:`write` changed something since the last frame."""
        self._hands_out = False
        height, width = self.input_size
        self._masks = np.empty((self.batch, DECODE_LIMIT, height, width), np.uint8)
        """Masks of each row of the last frame; pages that were never written take no memory."""
        weakref.finalize(self, leave, workplace).atexit = False

    # ------------------------------------------------------------------------------- a frame

    def submit(self, rows: range, inputs: Sequence[FrameInput]) -> None:
        """Send the inputs up and start the frame graph."""
        block = self._tensors.uploads(len(rows))
        for at, each in enumerate(inputs):
            for name in FRAME_INPUTS:
                block.arrays[name][at] = getattr(each, name)
        # What still runs is the memory graph and copies of keys, which read no inputs.
        block.memory.fill(block.host)
        self._rows, self._overwritten = rows, False
        self._thresholds = block.arrays["score_threshold"].tolist()
        self._workplace.frame(rows).run(wait=False)

    def frame(self) -> list[Candidates]:
        """Wait for the frame graph."""
        block = self._tensors.cells
        self._device.download(block.host, block.memory.address, wait=True)
        candidates = []
        for at, row in enumerate(self._rows):
            count, *cells = (block.arrays[name][at] for name in CELL_OUTPUTS)
            threshold = self._thresholds[at]
            candidates.append(as_candidates(self, row, int(count), cells, threshold))
        return candidates

    def mask(self, rows: Sequence[int]) -> None:
        """Start the mask graph, for neighbouring rows together."""
        for run in neighbouring_rows(rows):
            self._workplace.mask(self._place(run.start), len(run)).run(wait=False)

    def decode(self, row: int, cell: Ints) -> DecodedMasks:
        """Run the decode graph for as many of the best cells as they are, rounded up; the kernels
        of cells that the frame graph had no place for go up from the host."""
        place, count = self._place(row), len(cell)
        masks = self._masks[place, :count]
        if count > DECODE_LIMIT:
            masks = np.empty((count, *self.input_size), np.uint8)
        chosen_there = count <= self.places and not self._overwritten
        kernels = None if chosen_there else self.read("kernels", row)[0]
        parts = []
        for begin in range(0, count, DECODE_LIMIT):
            some = cell[begin : begin + DECODE_LIMIT]
            if kernels is None:
                limit = min(DECODE_LIMIT, self.places - begin)
                address = self._tensors.placed("cell_kernel", place)
                address += begin * self._tensors.kernel_bytes
            else:
                limit, address = DECODE_LIMIT, self._tensors.kernels
                self._device.upload(address, np.ascontiguousarray(kernels[:, some].T))
            fixed = fixed_count(len(some), limit)
            self._workplace.decode(place, fixed, address).run(wait=False)
            parts.append(self._come_down(masks[begin : begin + len(some)], fixed))
        return join_parts(parts, masks)

    def store(self, rows: range, storage: Sequence[Storage]) -> None:
        """Start the memory graph, straight into each row's slot, and copy the keys."""
        tensors, copy = self._tensors, self._device.copy
        key_bytes = tensors.row_bytes("key")
        for row, each in zip(rows, storage, strict=True):
            place = self._place(row)
            key, recent = tensors.placed("key", place), tensors.kept("recent_key", row)
            if each.slot is not None:
                value = tensors.kept("memory_value", row) + each.slot * tensors.slot_bytes
                self._workplace.memory(place, tensors.values or value).run(wait=False)
                if tensors.values:
                    copy(value, tensors.values, tensors.slot_bytes)
                slot = tensors.kept("memory_key", row) + each.slot * key_bytes
                copy(slot, key, key_bytes)
            if each.keeps_previous:
                copy(recent + key_bytes, recent, key_bytes)
            copy(recent, key, key_bytes)

    def _come_down(self, masks: NDArray[np.uint8], computed: int) -> DecodedMasks:
        """Wait for the masks of one run of the decode graph.

        Args:
            masks: uint8 [N, H, W], to be filled.
            computed: as many, or more, that the run has computed.
        """
        count, block = len(masks), self._tensors.counts
        self._device.download(masks, self._tensors.masks, wait=False)
        self._device.download(block.host, block.memory.address, wait=True)
        area, probability_sum, pairs = (block.arrays[name] for name in COUNT_OUTPUTS)
        # The pairs of fewer masks than there is room for lie together at the beginning.
        square = pairs.ravel()[: computed * computed].reshape(computed, computed)
        return DecodedMasks(
            masks,
            area[:count].copy(),
            probability_sum[:count].copy(),
            square[:count, :count].copy(),
            self._handed_out(count),
        )

    # ---------------------------------------------------------------------------- hand-outs

    def hand_out_masks(self) -> None:
        """Copies, in memory that is given back to ONNX Runtime when nobody uses them any more."""
        self._hands_out = True

    def _handed_out(self, count: int) -> tuple[DeviceArray, ...]:
        if not self._hands_out:
            return ()
        height, width = self.input_size
        size = height * width
        memory = self._device.allocate(count * size)
        self._device.copy(memory.address, self._tensors.masks, count * size, wait=True)
        place = (CPU if self._device.kind == "cpu" else CUDA, self._device.index)
        return tuple(
            DeviceArray(memory.address + at * size, self.input_size, "uint8", memory, place)
            for at in range(count)
        )

    # -------------------------------------------------------------------- for verification

    def read(self, name: str, row: int = 0) -> Array:
        """A copy."""
        values = np.empty(self._tensors.shape(name), self.specs[name].dtype)
        self._device.download(values, self._address(name, row), wait=True)
        return values

    def write(self, name: str, values: Array, row: int = 0) -> None:
        """From here on until the next frame, kernels are taken from ``kernels``, not from those
        that the frame graph chose."""
        self._overwritten = True
        spec = self.specs[name]
        shaped = np.broadcast_to(values, self._tensors.shape(name))
        self._device.upload(self._address(name, row), np.ascontiguousarray(shaped, spec.dtype))

    def warm_up(self) -> None:
        """Each graph once, and the decode graph for each number of masks: engines are built,
        memory is allocated and work is recorded now."""
        black = np.zeros((*self.input_size, 3), np.uint8)
        alone = np.arange(self.slots + 1) == self.slots
        self.submit(range(1), [FrameInput(black, alone, np.zeros(2, bool), 1.0)])
        self.frame()
        self.mask(range(1))
        limit = min(DECODE_LIMIT, self.places)
        for count in sorted({fixed_count(masks, limit) for masks in range(1, limit + 1)}):
            self.decode(0, np.arange(count))
        self.store(range(1), [Storage(0, keeps_previous=True)])

    # --------------------------------------------------------------------------- addresses

    def _place(self, row: int) -> int:
        # Before the first frame, for those who write inputs.
        return self._rows.index(row) if self._rows else 0

    def _address(self, name: str, row: int) -> int:
        """Where a row of a tensor is."""
        if name in KEPT:
            return self._tensors.kept(name, row)
        place = self._place(row)
        if name in FRAME_INPUTS:
            block = self._tensors.uploads(max(1, len(self._rows)))
            return block.addresses[name] + place * self._tensors.row_bytes(name)
        return self._tensors.placed(name, place)
