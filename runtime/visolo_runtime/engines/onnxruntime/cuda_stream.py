"""One CUDA stream for all sessions of ONNX Runtime on a GPU, made by the driver.

Each session computes on a stream of its own unless it is given one, and streams do not wait for one
another: a session that reads another's outputs would have to wait on the host for it. On one
stream, work runs in the order in which it was given, whichever session gave it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from visolo_core.errors import NotHereError, VisoloError
from visolo_runtime.engines.nvidia import LIBRARY, find_driver

_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: others' work on the legacy stream is not waited for


class GpuStream:
    """A stream in the primary context of a GPU, where CUDA's runtime and all its users work too.

    It is never destroyed: sessions that hold its address end whenever Python drops them.

    Args:
        gpu: index of the GPU.
        library: name or path of the driver.

    Raises:
        NotHereError: if there is no driver or no such GPU.
        VisoloError: if the driver refuses.
    """

    def __init__(self, gpu: int, library: str = LIBRARY) -> None:
        gpus = find_driver(library).gpus
        if gpu >= len(gpus):
            raise NotHereError(f"there is no GPU {gpu} here: the driver lists {len(gpus)}")
        self.gpu = gpus[gpu]
        self._driver = ctypes.CDLL(library)
        device, self._context, stream = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_void_p()
        self._call("cuDeviceGet", ctypes.byref(device), gpu)
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), device)
        with self._current():
            self._call("cuStreamCreate", ctypes.byref(stream), _NON_BLOCKING)
        self.address = stream.value or 0
        """A ``cudaStream_t`` as a number, which is the same as the driver's ``CUstream``."""

    def wait_for_device(self) -> None:
        """Wait for everything that anybody has given to the GPU."""
        with self._current():
            self._call("cuCtxSynchronize")

    @contextmanager
    def _current(self) -> Iterator[None]:
        self._call("cuCtxPushCurrent_v2", self._context)
        try:
            yield
        finally:
            self._call("cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))

    def _call(self, function: str, *arguments: Any) -> None:
        status = getattr(self._driver, function)(*arguments)
        if status:
            raise VisoloError(f"the NVIDIA driver refuses {function} (CUDA error {status})")


@cache
def gpu_stream(gpu: int) -> GpuStream:
    """The stream of a GPU, the same for the life of the process.

    Raises:
        NotHereError: if there is no driver or no such GPU.
        VisoloError: if the driver refuses.
    """
    return GpuStream(gpu)
