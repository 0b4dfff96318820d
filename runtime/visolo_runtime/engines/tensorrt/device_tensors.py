"""Where the tensors of the frame and mask graphs lie on a device.

What a row keeps from frame to frame has a place for every row. All others exist once for each place
in a launch, whichever row is computed there. Rows and places follow one another without gaps, so
that engines read and write several together.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import numpy as np

from visolo_core.contract import STREAMS, TensorSpec
from visolo_runtime.engines.buffers import KEPT
from visolo_runtime.engines.tensorrt.device import CudaStream, Device, DeviceMemory
from visolo_runtime.engines.tensorrt.device_block import DeviceBlock, aligned


class DeviceTensors:
    """Device memory of so many rows and places; the device must be current to allocate it.

    Args:
        device: the GPU.
        specs: of the tensors, by name.
        stream: on which the memory is cleared.
    """

    def __init__(self, device: Device, specs: Mapping[str, TensorSpec], stream: CudaStream) -> None:
        self._device, self._specs, self._stream = device, specs, stream
        self._strides = {name: aligned(self.row_bytes(name)) for name in KEPT}
        self._memories: list[DeviceMemory] = []
        self._base: dict[str, int] = {}

    @property
    def have_neighbours(self) -> bool:
        """Whether a row ends where an aligned one may begin."""
        names = (*KEPT, "mask_features")
        return all(self.row_bytes(name) == aligned(self.row_bytes(name)) for name in names)

    def place(self, rows: int, places: int) -> None:
        """Allocate all tensors that have no place yet.

        Args:
            rows: streams.
            places: most rows of a launch.

        Raises:
            VisoloError: if the device is out of memory.
        """
        for name in self._specs.keys() - self._base.keys():
            nbytes = rows * self._strides[name] if name in KEPT else places * self.row_bytes(name)
            self._base[name] = self.allocate(nbytes)

    def place_in(self, block: DeviceBlock, names: tuple[str, ...]) -> None:
        """Let some tensors be part of a block."""
        self._base |= {name: block.address(name) for name in names}

    def allocate(self, nbytes: int) -> int:
        """The address of device memory that lives as long as this object.

        Raises:
            VisoloError: if the device is out of memory.
        """
        # Kept from the first moment: if there is no room for the next piece, this one must stay
        # until it has been cleared.
        self._memories.append(self._device.allocate(nbytes, self._stream))
        return self._memories[-1].address

    def kept(self, name: str, row: int) -> int:
        """The address of a row of what is kept."""
        return self._base[name] + row * self._strides[name]

    def placed(self, name: str, place: int) -> int:
        """The address of a place of a launch."""
        return self._base[name] + place * self.row_bytes(name)

    def row_bytes(self, name: str) -> int:
        """Bytes of a tensor for one row."""
        return prod(self.shape(name)) * np.dtype(self._specs[name].dtype).itemsize

    def shape(self, name: str, rows: int = 1) -> tuple[int, ...]:
        """Shape of a tensor for so many rows."""
        return (rows, *self._specs[name].sized({STREAMS: rows})[1:])
