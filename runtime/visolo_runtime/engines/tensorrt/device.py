"""What the buffers on a GPU ask of it: memory, copies, streams, events and captured graphs.

``CudaDevice`` is pycuda's driver interface behind it. It works in the device's primary context,
which PyTorch, CuPy and ONNX Runtime share, and only ever has it pushed for the length of a call:
so it can live beside them, and in several threads. What it hands out makes the context current by
itself when it is dropped, in whichever thread: pycuda frees things in the thread that retained the
context and leaks them in all others.
"""

from __future__ import annotations

import atexit
import ctypes
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import Any

import numpy as np

from visolo_core.distribution import pip_install
from visolo_core.errors import NotHereError, VisoloError
from visolo_runtime.engines.buffers import Array
from visolo_runtime.engines.nvidia import LIBRARY, find_driver
from visolo_runtime.engines.tensorrt.current_context import CurrentContext, never_free

_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING, for which pycuda has no name
_NO_TIMING = 2  # CU_EVENT_DISABLE_TIMING, which makes it cheaper


class DeviceMemory(ABC):
    """A piece of device memory, freed when nothing refers to it any more."""

    address: int
    nbytes: int


class CudaStream(ABC):
    """Work that is done in order, and that waits for no other stream."""

    handle: int
    """As TensorRT wants it."""

    @abstractmethod
    def wait(self) -> None:
        """Until all of it is done."""


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


class CudaSignal(ABC):
    """What the host waits for; it can be part of a recorded graph."""

    @abstractmethod
    def record(self, stream: CudaStream, recording: bool) -> None:
        """Give it when the stream has done all that it was given so far.

        Args:
            stream: the stream.
            recording: the stream is being recorded, and each launch shall give the signal.
        """

    @abstractmethod
    def wait(self) -> None:
        """Until it was given as often as it was recorded or launched."""


class CudaGraph(ABC):
    """Work that was recorded once and is given to the device in one call."""

    @abstractmethod
    def launch(self, stream: CudaStream) -> None:
        """Do it again, on the same addresses."""


class Device(ABC):
    """One GPU."""

    index: int
    name: str
    architecture: str
    """Such as ``sm86``."""

    @property
    def failed(self) -> bool:
        """Whether it failed in such a way that this process can neither use nor free anything."""
        return False

    @abstractmethod
    def current(self) -> AbstractContextManager[None]:
        """The block in which calls to this device may be made, from any thread."""

    @abstractmethod
    def allocate(self, nbytes: int, stream: CudaStream) -> DeviceMemory:
        """Device memory that is all zeros for what the stream is given next.

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
    def signal(self) -> CudaSignal:
        """A new signal."""

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
    def follow(self, stream: CudaStream, producer: int) -> None:
        """Let a stream wait for all that another library has given to a stream of its own so far.

        Args:
            stream: what it is given next is done after that.
            producer: handle of the other stream; 1 and 2 are CUDA's default streams.
        """

    @abstractmethod
    def capture(self, stream: CudaStream, work: Callable[[], None]) -> CudaGraph:
        """Record what ``work`` gives to the stream, without doing it.

        Raises:
            VisoloError: if something in it cannot be recorded.
        """


class CudaDevice(Device):
    """A GPU through pycuda. :func:`cuda_device` opens it.

    Args:
        index: of the GPU.

    Raises:
        NotHereError: if pycuda is not installed, or there is no such GPU.
    """

    def __init__(self, index: int = 0) -> None:
        self._cuda = _import_pycuda()
        try:
            self._cuda.init()
            device = self._cuda.Device(index)
            self._context = device.retain_primary_context()
        except self._cuda.Error as error:
            raise NotHereError(f"there is no GPU {index} to be used: {error}") from error
        self.index, self.name = index, str(device.name())
        self.architecture = "sm" + "".join(map(str, device.compute_capability()))
        self._driver = _Driver()
        self._current = CurrentContext(
            f"GPU {index}, {self.name},",
            self._context.push,
            self._cuda.Context.pop,
            self._cuda.Error,
            self._answers,
        )
        # Nobody can say in which order the interpreter drops things at its end, nor whether.
        atexit.register(self._release)

    def _release(self) -> None:
        """Give the primary context back, and with it all that is left in it.

        pycuda's destructor calls cuCtxDetach, which fails for a primary context. Its ``detach``
        releases it, but leaves it on the driver's stack.
        """
        if self.failed:
            self._current.closed = True
            never_free(self._context)
            return
        self._context.push()
        with suppress(self._cuda.Error):  # a device that has failed is not waited for
            self._cuda.Context.synchronize()
        self._context.detach()
        self._driver.try_call("cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))
        self._current.closed = True

    def _answers(self) -> bool:
        """Whether calls that need nothing still succeed: after some errors none does."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        return not self._driver.try_call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))

    @property
    def failed(self) -> bool:
        """By its answer after an error."""
        return self._current.failed

    def current(self) -> CurrentContext:
        """The primary context, pushed and popped."""
        return self._current

    def allocate(self, nbytes: int, stream: CudaStream) -> DeviceMemory:
        """Cleared on the stream: clearing on the legacy stream would wait for, and break, what
        others record on blocking streams."""
        size = max(1, nbytes)
        try:
            memory = _PycudaMemory(self, self._cuda.mem_alloc(size), nbytes)
        except self._cuda.MemoryError as error:
            free, total = self._cuda.mem_get_info()
            raise VisoloError(
                f"{self.name} has no room for {nbytes / 1e6:.0f} MB more "
                f"({free / 1e6:.0f} of {total / 1e6:.0f} MB are free)"
            ) from error
        self._cuda.memset_d8_async(memory.address, 0, size, _stream(stream))
        return memory

    def pinned(self, shape: tuple[int, ...], dtype: str) -> Array:
        """Page-locked host memory."""
        try:
            owner = _PinnedMemory(self, self._cuda.pagelocked_empty(shape, np.dtype(dtype)))
        except self._cuda.MemoryError as error:
            raise VisoloError(
                f"this machine cannot set aside {shape} {dtype} for copies"
            ) from error
        array: Array = np.asarray(owner)
        array[...] = 0
        return array

    def stream(self) -> CudaStream:
        """A non-blocking stream: whatever others do on the legacy stream neither waits for it nor
        breaks what it records."""
        return _PycudaStream(self, self._cuda.Stream(_NON_BLOCKING))

    def event(self) -> CudaEvent:
        """An event of pycuda's."""
        return _PycudaEvent(self, self._cuda.Event())

    def signal(self) -> CudaSignal:
        """An event of the driver's."""
        return _DriverSignal(self, self._driver)

    def upload(self, address: int, source: Array, stream: CudaStream) -> None:
        """Asynchronous."""
        self._cuda.memcpy_htod_async(address, source, _stream(stream))

    def download(self, target: Array, address: int, stream: CudaStream) -> None:
        """Asynchronous."""
        self._cuda.memcpy_dtoh_async(target, address, _stream(stream))

    def copy(self, target: int, source: int, nbytes: int, stream: CudaStream) -> None:
        """Asynchronous."""
        self._cuda.memcpy_dtod_async(target, source, nbytes, _stream(stream))

    def follow(self, stream: CudaStream, producer: int) -> None:
        """By an event; the driver keeps it until it has happened."""
        event, handle = ctypes.c_void_p(), ctypes.c_void_p(stream.handle)
        self._driver.call("cuEventCreate", ctypes.byref(event), ctypes.c_uint(_NO_TIMING))
        try:
            self._driver.call("cuEventRecord", event, ctypes.c_void_p(producer))
            self._driver.call("cuStreamWaitEvent", handle, event, ctypes.c_uint(0))
        finally:
            self._driver.try_call("cuEventDestroy_v2", event)

    def capture(self, stream: CudaStream, work: Callable[[], None]) -> CudaGraph:
        """A CUDA graph."""
        return _DriverGraph(self, self._driver, stream, work)


_devices: dict[int, CudaDevice] = {}
_opening = threading.Lock()


def cuda_device(index: int = 0) -> CudaDevice:
    """The GPU of that index, one for the life of the process.

    Its primary context is retained once, and what it holds (kernels, other libraries' state) is
    not thrown away between two models.

    Raises:
        NotHereError: if pycuda is not installed, or there is no such GPU.
    """
    with _opening:
        if index not in _devices:
            _devices[index] = CudaDevice(index)
        return _devices[index]


class _PycudaMemory(DeviceMemory):
    def __init__(self, device: CudaDevice, allocation: Any, nbytes: int) -> None:
        self._device, self._allocation = device, allocation
        self.address, self.nbytes = int(allocation), nbytes

    def __del__(self) -> None:
        if self._device.failed:
            never_free(self._allocation)
            return
        with self._device.current():
            self._allocation.free()


class _PinnedMemory:
    """Owner of an array's memory, which lives as long as the array and its views."""

    def __init__(self, device: CudaDevice, array: Any) -> None:
        self._device, self._array = device, array
        self.__array_interface__ = array.__array_interface__

    def __del__(self) -> None:
        if self._device.failed:
            never_free(self._array)
            return
        with self._device.current():
            self._array.base.free()


class _PycudaStream(CudaStream):
    def __init__(self, device: CudaDevice, stream: Any) -> None:
        self._device, self.inner, self.handle = device, stream, int(stream.handle)

    def wait(self) -> None:
        if self._device.current().usable:
            self.inner.synchronize()

    def __del__(self) -> None:
        if self._device.failed:
            never_free(self.inner)
        with self._device.current():
            del self.inner


class _PycudaEvent(CudaEvent):
    def __init__(self, device: CudaDevice, event: Any) -> None:
        self._device, self.inner = device, event

    def record(self, stream: CudaStream) -> None:
        self.inner.record(_stream(stream))

    def wait(self) -> None:
        self.inner.synchronize()

    def milliseconds_since(self, earlier: CudaEvent) -> float:
        assert isinstance(earlier, _PycudaEvent)
        return float(self.inner.time_since(earlier.inner))

    def __del__(self) -> None:
        if self._device.failed:
            never_free(self.inner)
        with self._device.current():
            del self.inner


def _stream(stream: CudaStream) -> Any:
    assert isinstance(stream, _PycudaStream)
    return stream.inner


class _DriverSignal(CudaSignal):
    """An event. pycuda cannot make one part of a graph: recorded while a stream is captured, its
    events only order the captured work."""

    _NO_TIMING = 2  # CU_EVENT_DISABLE_TIMING, which makes it cheaper
    _EXTERNAL = 1  # CU_EVENT_RECORD_EXTERNAL: a node of the graph; an error outside a capture

    def __init__(self, device: CudaDevice, driver: _Driver) -> None:
        self._device, self._driver = device, driver
        event = ctypes.c_void_p()
        driver.call("cuEventCreate", ctypes.byref(event), ctypes.c_uint(self._NO_TIMING))
        self._event = event

    def record(self, stream: CudaStream, recording: bool) -> None:
        flags = ctypes.c_uint(self._EXTERNAL if recording else 0)
        handle = ctypes.c_void_p(stream.handle)
        self._driver.call("cuEventRecordWithFlags", self._event, handle, flags)

    def wait(self) -> None:
        self._driver.call("cuEventSynchronize", self._event)

    def __del__(self) -> None:
        event, current = getattr(self, "_event", None), self._device.current()
        if event is not None and current.usable:
            with current:
                self._driver.try_call("cuEventDestroy_v2", event)


class _DriverGraph(CudaGraph):
    """pycuda has no graphs; the driver's own functions are few."""

    _THREAD_LOCAL = 1  # other threads go on with what they do while this one records

    def __init__(
        self, device: CudaDevice, driver: _Driver, stream: CudaStream, work: Callable[[], None]
    ) -> None:
        self._device, self._driver = device, driver
        handle = ctypes.c_void_p(stream.handle)
        graph, executable = ctypes.c_void_p(), ctypes.c_void_p()
        driver.call("cuStreamBeginCapture_v2", handle, ctypes.c_int(self._THREAD_LOCAL))
        try:
            work()
        except BaseException:
            # The stream must be let go, and what the driver says to that would hide the reason.
            driver.try_call("cuStreamEndCapture", handle, ctypes.byref(graph))
            if graph:
                driver.try_call("cuGraphDestroy", graph)
            raise
        driver.call("cuStreamEndCapture", handle, ctypes.byref(graph))
        try:
            flags = ctypes.c_ulonglong(0)
            driver.call("cuGraphInstantiateWithFlags", ctypes.byref(executable), graph, flags)
        finally:
            driver.try_call("cuGraphDestroy", graph)
        self._executable = executable

    def launch(self, stream: CudaStream) -> None:
        self._driver.call("cuGraphLaunch", self._executable, ctypes.c_void_p(stream.handle))

    def __del__(self) -> None:
        executable, current = getattr(self, "_executable", None), self._device.current()
        if executable is not None and current.usable:
            with current:
                self._driver.try_call("cuGraphExecDestroy", executable)


class _Driver:
    """The CUDA driver's library, for the functions that pycuda lacks."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(LIBRARY)

    def call(self, function: str, *arguments: Any) -> None:
        """Call a function of the driver.

        Raises:
            VisoloError: with the driver's own words, if it fails.
        """
        status = self.try_call(function, *arguments)
        if status:
            text = ctypes.c_char_p()
            self.try_call("cuGetErrorString", ctypes.c_int(status), ctypes.byref(text))
            words = (text.value or b"unknown error").decode()
            raise VisoloError(f"CUDA: {function} failed with {status}, {words}")

    def try_call(self, function: str, *arguments: Any) -> int:
        """The same, where nothing can be done about a failure; the driver's status."""
        return int(getattr(self._library, function)(*arguments))


def _import_pycuda() -> Any:
    try:
        import pycuda.driver
    except (ImportError, OSError) as error:
        if not isinstance(error, ModuleNotFoundError):
            find_driver()  # it is installed and does not load: says what the driver lacks
        raise NotHereError(
            f"pycuda is not usable here: run {pip_install('gpu')} ({str(error).splitlines()[0]})"
        ) from error
    return pycuda.driver
