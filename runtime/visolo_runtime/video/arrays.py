"""Arrays of other libraries, by the protocols that they share, without a copy.

``__dlpack__`` comes first: its producer takes care that its own work is waited for. PyTorch's
``__cuda_array_interface__`` says nothing of that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import numpy as np

from visolo_core.errors import VisoloError
from visolo_runtime.engines.buffers import Array
from visolo_runtime.engines.dlpack import (
    CPU,
    CUDA,
    CUDA_HOST,
    CUDA_MANAGED,
    LEGACY_STREAM,
    ArrayInMemory,
    packed_strides,
    take,
)

_ON_HOST, _ON_GPU = (CPU, CUDA_HOST), (CUDA, CUDA_MANAGED)


@runtime_checkable
class DlpackArray(Protocol):
    """An array that can be taken through DLPack, such as a PyTorch tensor."""

    def __dlpack__(self, *, stream: Any = None) -> Any:
        """A capsule."""

    def __dlpack_device__(self) -> tuple[Any, int]:
        """Kind and index of the device."""


@runtime_checkable
class CudaArray(Protocol):
    """An array on a GPU, such as Numba's."""

    @property
    def __cuda_array_interface__(self) -> Mapping[str, Any]:
        """What it is and where."""


def host_array(values: object) -> Array | None:
    """An array in the host's memory as NumPy's; None if it is none.

    Raises:
        VisoloError: if its library refuses to share it.
    """
    if isinstance(values, np.ndarray):
        return values
    try:
        if isinstance(values, DlpackArray) and _kind(values) in _ON_HOST:
            return np.from_dlpack(values)
        return np.asarray(values) if hasattr(values, "__array_interface__") else None
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise _refused(values, error) from error


def gpu_array(values: object) -> ArrayInMemory | None:
    """Where an array on a GPU lies; None if it is none.

    Raises:
        VisoloError: if its library refuses to share it, or describes it wrongly.
    """
    if isinstance(values, DlpackArray):
        if _kind(values) not in _ON_GPU:
            return None
        try:
            capsule = values.__dlpack__(stream=LEGACY_STREAM)
        except (BufferError, RuntimeError, TypeError, ValueError) as error:
            raise _refused(values, error) from error
        return replace(take(capsule), stream=LEGACY_STREAM)
    interface = getattr(values, "__cuda_array_interface__", None)
    return None if interface is None else _by_interface(interface, values)


def _by_interface(interface: Any, owner: object) -> ArrayInMemory:
    try:
        dtype = np.dtype(interface["typestr"])
        shape = tuple(int(side) for side in interface["shape"])
        strides = interface.get("strides") or packed_strides(shape, dtype.itemsize)
        address, masked = int(interface["data"][0]), interface.get("mask") is not None
        stream = interface.get("stream", LEGACY_STREAM)  # version 2 does not know it
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise VisoloError(
            f"the __cuda_array_interface__ of {_described(owner)} is not of version 2 or 3: "
            f"{type(error).__name__}: {error}"
        ) from error
    if masked or stream == 0:
        what = "a mask" if masked else "stream 0, which is ambiguous"
        raise VisoloError(f"the __cuda_array_interface__ of {_described(owner)} has {what}")
    return ArrayInMemory(address, shape, tuple(strides), dtype.name, (CUDA, -1), owner, stream)


def _kind(values: DlpackArray) -> int:
    return int(values.__dlpack_device__()[0])


def _described(values: object) -> str:
    return f"a {type(values).__module__}.{type(values).__qualname__}"


def _refused(values: object, error: Exception) -> VisoloError:
    reason = next(iter(str(error).splitlines()), type(error).__name__)
    return VisoloError(f"{_described(values)} cannot be shared: {reason}")
