"""What the buffers on a GPU ask of it: memory, copies, streams, events and captured graphs.

``CudaDevice`` is pycuda's driver interface behind it. It works in the device's primary context,
which PyTorch, CuPy and ONNX Runtime share, and only ever has it pushed for the length of a call:
so it can live beside them, and in several threads.
"""

from __future__ import annotations

import ctypes
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np

from visolo_core.distribution import pip_install
from visolo_core.errors import NotHereError, VisoloError
from visolo_runtime.engines.buffers import Array


class DeviceMemory(ABC):
    """A piece of device memory, freed when nothing refers to it any more."""

    address: int
    nbytes: int


class CudaStream(ABC):
    """Work that is done in order."""

    handle: int
    """As TensorRT wants it."""

    @abstractmethod
    def wait(self) -> None:
        """Until all of it is done."""

    @abstractmethod
    def after(self, event: CudaEvent) -> None:
        """Let what comes next begin when ``event`` has happened."""


class CudaEvent(ABC):
    """A moment in a stream."""

    @abstractmethod
    def record(self, stream: CudaStream) -> None:
        """Make it the moment at which the stream has done all that it was given so far."""

    @abstractmethod
    def wait(self) -> None:
        """Until it has happened."""

    @abstractmethod
    def milliseconds_since(self, earlier: CudaEvent) -> float:
        """Time on the device between two moments that have happened."""


class CudaGraph(ABC):
    """Work that was recorded once and is given to the device in one call."""

    @abstractmethod
    def launch(self, stream: CudaStream) -> None:
        """Do it again, on the same addresses."""


class Device(ABC):
    """One GPU."""

    name: str
    architecture: str
    """Such as ``sm86``."""

    @abstractmethod
    def current(self) -> AbstractContextManager[None]:
        """The block in which calls to this device may be made, from any thread."""

    @abstractmethod
    def allocate(self, nbytes: int) -> DeviceMemory:
        """Zeroed device memory.

        Raises:
            VisoloError: if there is not enough.
        """

    @abstractmethod
    def pinned(self, shape: tuple[int, ...], dtype: str) -> Array:
        """A host array of zeros that copies can reach while the host goes on."""

    @abstractmethod
    def stream(self) -> CudaStream:
        """A new stream."""

    @abstractmethod
    def event(self) -> CudaEvent:
        """A new event."""

    @abstractmethod
    def upload(self, address: int, source: Array, stream: CudaStream) -> None:
        """Copy a pinned array to the device."""

    @abstractmethod
    def download(self, target: Array, address: int, stream: CudaStream) -> None:
        """Copy from the device into a pinned array."""

    @abstractmethod
    def copy(self, target: int, source: int, nbytes: int, stream: CudaStream) -> None:
        """Copy within the device."""

    @abstractmethod
    def capture(self, stream: CudaStream, work: Callable[[], None]) -> CudaGraph:
        """Record what ``work`` gives to the stream, without doing it.

        Raises:
            VisoloError: if something in it cannot be recorded.
        """


class CudaDevice(Device):
    """A GPU through pycuda.

    Args:
        index: of the GPU.

    Raises:
        VisoloError: if pycuda is not installed, or there is no such GPU.
    """

    def __init__(self, index: int = 0) -> None:
        self._cuda = _import_pycuda()
        try:
            self._cuda.init()
            device = self._cuda.Device(index)
            self._context = device.retain_primary_context()
        except self._cuda.Error as error:
            raise NotHereError(f"there is no GPU {index} to be used: {error}") from error
        self.name = str(device.name())
        self.architecture = "sm" + "".join(map(str, device.compute_capability()))

    @contextmanager
    def current(self) -> Iterator[None]:
        """The primary context, pushed and popped."""
        self._context.push()
        try:
            yield
        finally:
            self._cuda.Context.pop()

    def allocate(self, nbytes: int) -> DeviceMemory:
        """Zeroed device memory."""
        try:
            allocation = self._cuda.mem_alloc(max(1, nbytes))
        except self._cuda.MemoryError as error:
            free, total = self._cuda.mem_get_info()
            raise VisoloError(
                f"{self.name} has no room for {nbytes / 1e6:.0f} MB more "
                f"({free / 1e6:.0f} of {total / 1e6:.0f} MB are free)"
            ) from error
        self._cuda.memset_d8(int(allocation), 0, max(1, nbytes))
        return _PycudaMemory(self, allocation, nbytes)

    def pinned(self, shape: tuple[int, ...], dtype: str) -> Array:
        """Page-locked host memory."""
        array: Array = self._cuda.pagelocked_empty(shape, np.dtype(dtype))
        array[...] = 0
        return array

    def stream(self) -> CudaStream:
        """A stream of pycuda's."""
        return _PycudaStream(self._cuda.Stream())

    def event(self) -> CudaEvent:
        """An event of pycuda's."""
        return _PycudaEvent(self._cuda.Event())

    def upload(self, address: int, source: Array, stream: CudaStream) -> None:
        """Asynchronous."""
        self._cuda.memcpy_htod_async(address, source, _stream(stream))

    def download(self, target: Array, address: int, stream: CudaStream) -> None:
        """Asynchronous."""
        self._cuda.memcpy_dtoh_async(target, address, _stream(stream))

    def copy(self, target: int, source: int, nbytes: int, stream: CudaStream) -> None:
        """Asynchronous."""
        self._cuda.memcpy_dtod_async(target, source, nbytes, _stream(stream))

    def capture(self, stream: CudaStream, work: Callable[[], None]) -> CudaGraph:
        """A CUDA graph."""
        return _DriverGraph(_Driver(), stream, work)


class _PycudaMemory(DeviceMemory):
    def __init__(self, device: CudaDevice, allocation: Any, nbytes: int) -> None:
        self._device, self._allocation = device, allocation
        self.address, self.nbytes = int(allocation), nbytes

    def __del__(self) -> None:
        # The context must be current to free memory, whichever thread drops the last reference.
        # At the interpreter's end the driver is gone, and its memory with it.
        if not sys.is_finalizing():
            with self._device.current():
                self._allocation.free()


class _PycudaStream(CudaStream):
    def __init__(self, stream: Any) -> None:
        self.inner, self.handle = stream, int(stream.handle)

    def wait(self) -> None:
        self.inner.synchronize()

    def after(self, event: CudaEvent) -> None:
        assert isinstance(event, _PycudaEvent)
        self.inner.wait_for_event(event.inner)


class _PycudaEvent(CudaEvent):
    def __init__(self, event: Any) -> None:
        self.inner = event

    def record(self, stream: CudaStream) -> None:
        self.inner.record(_stream(stream))

    def wait(self) -> None:
        self.inner.synchronize()

    def milliseconds_since(self, earlier: CudaEvent) -> float:
        assert isinstance(earlier, _PycudaEvent)
        return float(self.inner.time_since(earlier.inner))


def _stream(stream: CudaStream) -> Any:
    assert isinstance(stream, _PycudaStream)
    return stream.inner


class _DriverGraph(CudaGraph):
    """pycuda has no graphs; the driver's own functions are few."""

    _THREAD_LOCAL = 1  # other threads go on with what they do while this one records

    def __init__(self, driver: _Driver, stream: CudaStream, work: Callable[[], None]) -> None:
        self._driver = driver
        handle = ctypes.c_void_p(stream.handle)
        graph, executable = ctypes.c_void_p(), ctypes.c_void_p()
        driver.call("cuStreamBeginCapture_v2", handle, ctypes.c_int(self._THREAD_LOCAL))
        try:
            work()
        finally:
            driver.call("cuStreamEndCapture", handle, ctypes.byref(graph))
        driver.call(
            "cuGraphInstantiateWithFlags", ctypes.byref(executable), graph, ctypes.c_ulonglong(0)
        )
        driver.call("cuGraphDestroy", graph)
        self._executable = executable

    def launch(self, stream: CudaStream) -> None:
        self._driver.call("cuGraphLaunch", self._executable, ctypes.c_void_p(stream.handle))

    def __del__(self) -> None:
        executable = getattr(self, "_executable", None)
        if executable is not None and not sys.is_finalizing():
            self._driver.library.cuGraphExecDestroy(executable)


class _Driver:
    """The CUDA driver's library, for the functions that pycuda lacks."""

    def __init__(self) -> None:
        name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
        self.library = ctypes.CDLL(name)

    def call(self, function: str, *arguments: Any) -> None:
        """Call a function of the driver.

        Raises:
            VisoloError: with the driver's own words, if it fails.
        """
        status = getattr(self.library, function)(*arguments)
        if status:
            text = ctypes.c_char_p()
            self.library.cuGetErrorString(ctypes.c_int(status), ctypes.byref(text))
            said = (text.value or b"unknown error").decode()
            raise VisoloError(f"CUDA graph: {function} failed with {status}, {said}")


def _import_pycuda() -> Any:
    try:
        import pycuda.driver
    except (ImportError, OSError) as error:
        raise NotHereError(
            f"pycuda is not usable here: {pip_install('gpu')} ({str(error).splitlines()[0]})"
        ) from error
    return pycuda.driver
