"""Arrays on a device for other libraries: PyTorch, CuPy, Numba and whoever knows the protocols."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from visolo_core.errors import VisoloError
from visolo_runtime.engines.dlpack import CPU, ArrayInMemory, capsule_of, packed_strides


class DeviceArray:
    """An array without gaps that other libraries take without a copy, through ``__dlpack__`` or
    ``__cuda_array_interface__``.

    It is complete when it is handed out, so that no stream has to wait for it. Its memory lives as
    long as it, and as whatever was made of it.

    Args:
        address: of the first element.
        shape: of the array.
        dtype: NumPy's name of the type.
        owner: keeps the memory alive.
        device: kind and index as DLPack numbers them, such as ``(CUDA, 0)``.

    >>> import numpy as np
    >>> numbers = np.arange(6, dtype=np.float32)
    >>> array = DeviceArray(numbers.ctypes.data, (2, 3), "float32", numbers, (CPU, 0))
    >>> np.from_dlpack(array).tolist()
    [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    """

    def __init__(
        self,
        address: int,
        shape: tuple[int, ...],
        dtype: str,
        owner: object,
        device: tuple[int, int],
    ) -> None:
        strides = packed_strides(shape, np.dtype(dtype).itemsize)
        self._array = ArrayInMemory(address, shape, strides, dtype, device, owner)

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of its sides."""
        return self._array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """As NumPy describes it."""
        return np.dtype(self._array.dtype)

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        kind, index = self._array.device
        place = "host" if kind == CPU else f"GPU {index}"
        return f"DeviceArray({self._array.dtype} {list(self.shape)} on {place})"

    @property
    def __cuda_array_interface__(self) -> Mapping[str, Any]:
        if self._array.device[0] == CPU:
            raise AttributeError("this array lies in the host's memory")
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self._array.address, False),
            "version": 3,
            "strides": None,
            "stream": None,
        }

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._array.device

    def __dlpack__(
        self,
        *,
        stream: int | None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        """A DLPack capsule of the array itself.

        Args:
            stream: of the consumer; the array is complete whatever it is.
            max_version: newest form that the consumer knows; it must know the older one as well.
            dl_device: where the consumer wants it; only where it is.
            copy: whether the consumer wants a copy; it cannot have one.

        Raises:
            VisoloError: if it is wanted elsewhere, or as a copy.
        """
        if dl_device not in (None, self._array.device) or copy:
            raise VisoloError(
                "this array is handed out where it lies, without a copy: copy it then"
            )
        return capsule_of(self._array)
