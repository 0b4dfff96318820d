"""Small tensors that lie one behind the other on a device, so that one copy downloads them all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import numpy as np

from visolo_core.contract import TensorSpec
from visolo_runtime.engines.buffers import Array
from visolo_runtime.engines.tensorrt.device import CudaStream, Device

_ALIGNMENT = 256  # bytes, which TensorRT requires of addresses


class DeviceBlock:
    """Tensors on a device, and arrays in host memory that they are downloaded into.

    Args:
        device: the GPU.
        allocate: allocates device memory of so many bytes, and returns its address.
        tensors: with shapes in numbers.
        targets: number of sets of arrays in host memory.
    """

    def __init__(
        self,
        device: Device,
        allocate: Callable[[int], int],
        tensors: Sequence[TensorSpec],
        targets: int,
    ) -> None:
        self._device = device
        self._specs = {tensor.name: tensor for tensor in tensors}
        self._offsets: dict[str, int] = {}
        end = 0
        for tensor in tensors:
            self._offsets[tensor.name] = end
            end += aligned(self._bytes(tensor.name))
        self._address = allocate(end)
        self._pinned = [device.pinned((end,), "uint8") for _ in range(targets)]

    def address(self, name: str) -> int:
        """Where a tensor is on the device."""
        return self._address + self._offsets[name]

    def array(self, name: str, target: int) -> Array:
        """What was downloaded last into one of the sets."""
        values: Array = self._raw(name, target).view(self._specs[name].dtype)
        return values.reshape(self._specs[name].sized())

    def download(self, target: int, stream: CudaStream, names: Sequence[str] = ()) -> None:
        """Download some of the tensors, or all, into one of the sets; not done when it returns."""
        if not names:
            self._device.download(self._pinned[target], self._address, stream)
        for name in names:
            self._device.download(self._raw(name, target), self.address(name), stream)

    def _raw(self, name: str, target: int) -> Array:
        first = self._offsets[name]
        return self._pinned[target][first : first + self._bytes(name)]

    def _bytes(self, name: str) -> int:
        spec = self._specs[name]
        return prod(spec.sized()) * np.dtype(spec.dtype).itemsize


def aligned(size: int) -> int:
    """The next multiple of the alignment of addresses."""
    return -(-size // _ALIGNMENT) * _ALIGNMENT
