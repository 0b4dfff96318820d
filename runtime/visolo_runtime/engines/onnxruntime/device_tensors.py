"""Where the tensors of all graphs lie on a device.

What a row keeps from frame to frame has a place for every row; all else exists once for each place
of a launch, whichever row is computed there. What goes up of a frame is one block, and so is what
comes down of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod

import numpy as np

from visolo_core.contract import MASKS, STREAMS, GraphSpec, TensorSpec
from visolo_runtime.engines.buffers import (
    CELL_OUTPUTS,
    COUNT_OUTPUTS,
    DECODE_LIMIT,
    FRAME_INPUTS,
    KEPT,
    STAGE_OUTPUTS,
    Array,
)
from visolo_runtime.engines.onnxruntime.device import OrtDevice

_NEIGHBOURS = (*KEPT, *STAGE_OUTPUTS, "features", "mask_features", "cell_kernel")
_ALIGNMENT = 256  # bytes, which TensorRT requires of addresses


class OrtBlock:
    """Tensors one behind the other on a device, and their copy on the host.

    Args:
        device: where they lie.
        tensors: with shapes in numbers.
    """

    def __init__(self, device: OrtDevice, tensors: Sequence[TensorSpec]) -> None:
        offsets, end = {}, 0
        for tensor in tensors:
            offsets[tensor.name] = end
            end += _padded(_nbytes(tensor))
        self.memory = device.allocate(end)
        self.host: Array = np.zeros(end, np.uint8)
        self.addresses = {name: self.memory.address + begin for name, begin in offsets.items()}
        self.arrays: dict[str, Array] = {
            tensor.name: self.host[offsets[tensor.name] :][: _nbytes(tensor)]
            .view(tensor.dtype)
            .reshape(tensor.sized())
            for tensor in tensors
        }
        """Views of ``host``."""


class OrtTensors:
    """Memory for a number of rows.

    Args:
        device: where the engines work.
        specs: tensors of the frame and mask graphs, by name.
        decode: contract of the decode graph.
        rows: number of streams.
        batch: most neighbouring rows that the engines take together.

    Raises:
        VisoloError: if the device is out of memory.
    """

    def __init__(
        self,
        device: OrtDevice,
        specs: Mapping[str, TensorSpec],
        decode: GraphSpec,
        rows: int,
        batch: int,
    ) -> None:
        self._device, self._specs = device, specs
        fits = all(self.row_bytes(name) == _padded(self.row_bytes(name)) for name in _NEIGHBOURS)
        self.batch = min(rows, batch) if fits else 1
        """Most neighbouring rows that go through together."""
        self._strides = {name: _padded(self.row_bytes(name)) for name in KEPT}
        self._memories = {name: device.allocate(rows * self._strides[name]) for name in KEPT}
        for name in specs.keys() - {*KEPT, *CELL_OUTPUTS, *FRAME_INPUTS}:
            self._memories[name] = device.allocate(self.batch * self.row_bytes(name))
        self.slot_bytes = (
            self.row_bytes("memory_value") // specs["memory_value"].sized({STREAMS: 1})[1]
        )
        """Of what a slot stores of a frame besides its key."""
        self.values: int | None = None
        """Where a frame's value is computed, if slots do not begin at aligned addresses."""
        if self.slot_bytes != _padded(self.slot_bytes):
            self._memories["value"] = device.allocate(self.slot_bytes)
            self.values = self._memories["value"].address
        self.cells = OrtBlock(device, [self._sized(name, self.batch) for name in CELL_OUTPUTS])
        """What comes down of each frame."""
        self._uploads: dict[int, OrtBlock] = {}
        kernels = next(each for each in decode.inputs if each.name == "kernels")
        self.kernel_bytes = _nbytes(kernels, {MASKS: 1})
        self._kernels = device.allocate(DECODE_LIMIT * self.kernel_bytes)
        self.kernels = self._kernels.address
        """Of kernels that the host has chosen."""
        outputs = {each.name: _filled(each, {MASKS: DECODE_LIMIT}) for each in decode.outputs}
        self.counts = OrtBlock(device, [outputs[name] for name in COUNT_OUTPUTS])
        """What comes down of each run of the decode graph."""
        self._masks = device.allocate(_nbytes(outputs["masks"]))
        self.masks = self._masks.address
        """Of the masks of one run of the decode graph."""

    def clear(self) -> None:
        """Forget what the rows keep. Work of whoever had them before is waited for."""
        self._device.wait_for_all()
        for name in KEPT:
            memory = self._memories[name]
            memory.fill(np.zeros(memory.nbytes, np.uint8))

    def uploads(self, rows: int) -> OrtBlock:
        """What goes up of a frame of so many rows."""
        if rows not in self._uploads:
            tensors = [self._sized(name, rows) for name in FRAME_INPUTS]
            self._uploads[rows] = OrtBlock(self._device, tensors)
        return self._uploads[rows]

    def kept(self, name: str, row: int) -> int:
        """The address of a row of what is kept."""
        return self._memories[name].address + row * self._strides[name]

    def placed(self, name: str, place: int) -> int:
        """The address of a place of a launch, of what is neither kept nor goes up."""
        block = self.cells.addresses
        base = block[name] if name in block else self._memories[name].address
        return base + place * self.row_bytes(name)

    def row_bytes(self, name: str) -> int:
        """Bytes of a tensor for one row."""
        return _nbytes(self._specs[name], {STREAMS: 1})

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor for one row."""
        return self._specs[name].sized({STREAMS: 1})

    def _sized(self, name: str, rows: int) -> TensorSpec:
        spec = self._specs[name]
        return replace(spec, shape=(rows, *spec.sized({STREAMS: rows})[1:]))


def _padded(size: int) -> int:
    """The next multiple of the alignment of addresses."""
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _filled(spec: TensorSpec, lengths: Mapping[str, int]) -> TensorSpec:
    return replace(spec, shape=spec.sized(lengths))


def _nbytes(spec: TensorSpec, lengths: Mapping[str, int] | None = None) -> int:
    return prod(spec.sized(lengths or {})) * np.dtype(spec.dtype).itemsize
