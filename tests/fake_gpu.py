"""A GPU that is none, and a TensorRT that computes with ONNX Runtime.

Device memory is host memory at its real address, so that engines find what was bound. Work that is
given to a stream waits there until something waits for the stream: what the code under test reads
too early, or frees too early, comes out wrong, as it would on a GPU.

``tests/standin`` gives the same TensorRT real queues instead: those of a driver in C.
"""

from __future__ import annotations

import ctypes
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np
import onnxruntime

from visolo_core.errors import VisoloError
from visolo_runtime.engines.buffers import Array
from visolo_runtime.engines.tensorrt.device import (
    CudaEvent,
    CudaGraph,
    CudaSignal,
    CudaStream,
    Device,
    DeviceMemory,
)

Work = Callable[[], None]
_TYPES = {
    "tensor(float)": "FLOAT", "tensor(int32)": "INT32", "tensor(uint8)": "UINT8",
    "tensor(bool)": "BOOL",
}  # fmt: skip
_computed = count()
_NUMPY = {"FLOAT": np.float32, "INT32": np.int32, "UINT8": np.uint8, "BOOL": np.bool_}


class FakeMemory(DeviceMemory):
    def __init__(self, nbytes: int) -> None:
        self._bytes = np.zeros(nbytes + 256, np.uint8)
        base = self._bytes.ctypes.data
        self.address, self.nbytes = base + -base % 256, nbytes


class FakeEvent(CudaEvent):
    def __init__(self) -> None:
        self.recorded: tuple[FakeStream, int] | None = None

    def record(self, stream: CudaStream) -> None:
        assert isinstance(stream, FakeStream)
        self.recorded = stream, stream.given

    def wait(self) -> None:
        if self.recorded:
            stream, place = self.recorded
            stream.work_until(place)

    def milliseconds_since(self, earlier: CudaEvent) -> float:
        """A millisecond for each piece of work between the two."""
        assert isinstance(earlier, FakeEvent)
        assert self.recorded
        assert earlier.recorded
        return float(self.recorded[1] - earlier.recorded[1])


class FakeSignal(CudaSignal):
    """As part of a recording it is given at each launch."""

    def __init__(self, device: FakeDevice) -> None:
        self._device = device
        self._due: tuple[FakeStream, int] | None = None

    def record(self, stream: CudaStream, recording: bool) -> None:
        assert isinstance(stream, FakeStream)
        assert recording == (stream.recording is not None)
        if recording:
            assert stream.recording is not None
            stream.recording.append(self)
        else:
            self.launched(stream)

    def launched(self, stream: FakeStream) -> None:
        self._due = stream, stream.given

    def wait(self) -> None:
        self._device.check_current()
        self._device.counts["wait"] += 1
        if self._due:
            stream, place = self._due
            stream.work_until(place)


class FakeStream(CudaStream):
    """Does what it was given when it is waited for, and not before."""

    def __init__(self, device: FakeDevice, handle: int) -> None:
        self.device, self.handle = device, handle
        self._waiting: list[Work] = []
        self.given = self.done = 0
        self.recording: list[Work | FakeSignal] | None = None

    def give(self, work: Work) -> None:
        if self.recording is not None:
            self.recording.append(work)
            return
        self._waiting.append(work)
        self.given += 1

    def work_until(self, place: int) -> None:
        while self.done < place:
            self._waiting.pop(0)()
            self.done += 1

    def wait(self) -> None:
        assert self.recording is None, "a stream that records cannot be waited for"
        self.device.counts["wait"] += 1
        self.work_until(self.given)


class FakeGraph(CudaGraph):
    def __init__(self, device: FakeDevice, works: list[Work | FakeSignal]) -> None:
        self._device, self._works = device, works

    def launch(self, stream: CudaStream) -> None:
        assert isinstance(stream, FakeStream)
        self._device.counts["graph launch"] += 1
        for work in self._works:
            if isinstance(work, FakeSignal):
                work.launched(stream)
            else:
                stream.give(work)


class _Depth(threading.local):
    """Of blocks in which the device is current in a thread: buffers may be dropped in any."""

    depth = 0


class FakeDevice(Device):
    """Args: capacity: bytes that can be allocated."""

    index, name, architecture = 0, "fake GPU", "sm86"

    def __init__(self, capacity: int = 2**31) -> None:
        self.free = capacity
        self.counts: Counter[str] = Counter()
        self.streams: dict[int, FakeStream] = {}
        self._current = _Depth()

    @contextmanager
    def current(self) -> Iterator[None]:
        self._current.depth += 1
        try:
            yield
        finally:
            self._current.depth -= 1

    def allocate(self, nbytes: int, stream: CudaStream) -> DeviceMemory:
        self.check_current()
        assert isinstance(stream, FakeStream)
        self.counts["allocation"] += 1
        if nbytes > self.free:
            raise VisoloError(f"{self.name} has no room for {nbytes} bytes more")
        self.free -= nbytes
        return FakeMemory(nbytes)

    def pinned(self, shape: tuple[int, ...], dtype: str) -> Array:
        self.check_current()
        return np.zeros(shape, dtype)

    def stream(self) -> CudaStream:
        self.check_current()
        stream = FakeStream(self, 1000 + len(self.streams))
        self.streams[stream.handle] = stream
        return stream

    def event(self) -> CudaEvent:
        self.check_current()
        self.counts["event"] += 1
        return FakeEvent()

    def signal(self) -> CudaSignal:
        self.check_current()
        return FakeSignal(self)

    def upload(self, address: int, source: Array, stream: CudaStream) -> None:
        assert source.flags.c_contiguous
        self._count("upload", source.nbytes)
        self._give(stream, lambda: ctypes.memmove(address, source.ctypes.data, source.nbytes))

    def download(self, target: Array, address: int, stream: CudaStream) -> None:
        assert target.flags.c_contiguous
        self._count("download", target.nbytes)
        self._give(stream, lambda: ctypes.memmove(target.ctypes.data, address, target.nbytes))

    def copy(self, target: int, source: int, nbytes: int, stream: CudaStream) -> None:
        self._count("copy", nbytes)
        self._give(stream, lambda: ctypes.memmove(target, source, nbytes))

    def follow(self, stream: CudaStream, producer: int) -> None:
        """Default streams have nothing to do; others are streams of this device."""
        self.check_current()
        self.counts["follow"] += 1
        other = self.streams.get(producer)
        if other is not None:
            place = other.given
            self._give(stream, lambda: other.work_until(place))

    def capture(self, stream: CudaStream, work: Work) -> CudaGraph:
        self.check_current()
        assert isinstance(stream, FakeStream)
        stream.recording = []
        try:
            work()
        finally:
            works, stream.recording = stream.recording, None
        return FakeGraph(self, works)

    def launch(self, stream: int, work: Work, addresses: list[int]) -> bool:
        self.streams[stream].give(work)
        return True

    def _give(self, stream: CudaStream, work: Callable[[], Any]) -> None:
        assert isinstance(stream, FakeStream)
        stream.give(lambda: (work(), None)[1])

    def _count(self, what: str, nbytes: int) -> None:
        self.check_current()
        self.counts[what] += 1
        self.counts[f"{what} bytes"] += nbytes

    def check_current(self) -> None:
        assert self._current.depth, "the device is not current"


class Queues(Protocol):
    """What the played engines need of a device, fake or behind a driver."""

    counts: Counter[str]

    def launch(self, stream: int, work: Work, addresses: list[int]) -> bool:
        """Give work that uses these addresses to the stream of that handle."""

    def check_current(self) -> None:
        """Fail if the device's context is not current in this thread."""


class FakeContext:
    """Named as TensorRT's ``IExecutionContext``."""

    nvtx_verbosity = "detailed"

    def __init__(self, queues: Queues, session: Any, scratch_bytes: int, strategy: str) -> None:
        self._queues, self._session = queues, session
        queues.check_current()
        self._scratch_bytes, self._strategy = scratch_bytes, strategy
        self._scratch = 0
        queues.counts["contexts with memory of their own"] += strategy == "static"
        self._addresses: dict[str, int] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return address % 4 == 0

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self._shapes[name] = shape
        return all(side > 0 for side in shape)

    def set_device_memory(self, memory: int, size: int) -> None:
        assert self._strategy == "user managed"
        assert memory % 256 == 0
        assert size >= self._scratch_bytes
        self._queues.counts[f"scratch at {memory}"] += 1
        self._scratch = memory

    def execute_async_v3(self, stream: int) -> bool:
        """What is bound now counts, not what will be bound when the work is done."""
        self._queues.check_current()
        if self._strategy == "user managed" and not self._scratch:
            return False
        addresses, shapes = dict(self._addresses), dict(self._shapes)
        session, shapes_now = self._session, self._shapes
        scratch = _bytes(self._scratch, self._scratch_bytes if self._scratch else 0)
        self._queues.counts["engine"] += 1
        return self._queues.launch(
            stream,
            lambda: _compute(session, addresses, shapes, shapes_now, scratch),
            [*addresses.values(), *([self._scratch] if self._scratch else [])],
        )

    def __del__(self) -> None:
        self._queues.check_current()
        self._shapes["gone"] = ()


def _compute(
    session: Any,
    addresses: dict[str, int],
    shapes: dict[str, tuple[int, ...]],
    shapes_now: dict[str, tuple[int, ...]],
    scratch: Array,
) -> None:
    """Run an engine. A context whose shapes have changed since its work was recorded replays it
    wrongly (TensorRT issue 3798), and so does one that is gone: zeros come out. So they do if
    somebody else writes to its scratch memory meanwhile."""
    own = next(_computed) % 256
    scratch[:] = own
    feeds = {
        node.name: _view(addresses[node.name], shapes.get(node.name, node.shape), node.type)
        for node in session.get_inputs()
    }
    for node, found in zip(session.get_outputs(), session.run(None, feeds), strict=True):
        undisturbed = shapes == shapes_now and bool((scratch == own).all())
        values = found if undisturbed else np.zeros_like(found)
        _view(addresses[node.name], found.shape, node.type)[...] = values


class FakeRtxContext(FakeContext):
    """Of TensorRT-RTX."""

    def is_stream_capturable(self, stream: int) -> bool:
        return not self._queues.counts["refuses to be recorded"]


class FakeRuntimeCache:
    """Named as ``IRuntimeCache``. It holds the name of each engine that was compiled."""

    def __init__(self, queues: Queues) -> None:
        self._queues = queues
        self.kernels: set[str] = set()

    def deserialize(self, blob: bytes) -> bool:
        self._queues.check_current()
        if not blob.startswith(b"this GPU:"):
            return False
        self.kernels.update(blob.decode()[9:].split())
        return True

    def serialize(self) -> bytes:
        self._queues.check_current()
        return f"this GPU:{' '.join(sorted(self.kernels))}".encode()


class FakeRuntimeConfig:
    """Named as ``IRuntimeConfig``."""

    dynamic_shapes_kernel_specialization_strategy = "lazy"
    _cache: FakeRuntimeCache | None = None
    _strategy = "static"

    def __init__(self, queues: Queues) -> None:
        self._queues = queues

    def set_execution_context_allocation_strategy(self, strategy: str) -> None:
        self._strategy = strategy

    def get_execution_context_allocation_strategy(self) -> str:
        return self._strategy

    def create_runtime_cache(self) -> FakeRuntimeCache:
        return FakeRuntimeCache(self._queues)

    def set_runtime_cache(self, cache: FakeRuntimeCache) -> bool:
        self._cache = cache
        return True

    def get_runtime_cache(self) -> FakeRuntimeCache | None:
        return self._cache


class FakeEngine:
    """Named as TensorRT's ``ICudaEngine``."""

    def __init__(self, queues: Queues, onnx_file: Path) -> None:
        self._queues, self._file = queues, onnx_file
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            str(onnx_file), options, providers=["CPUExecutionProvider"]
        )
        sides = (("INPUT", self._session.get_inputs()), ("OUTPUT", self._session.get_outputs()))
        self._nodes = [(mode, node) for mode, nodes in sides for node in nodes]
        self._by_name = {node.name: (mode, node) for mode, node in self._nodes}
        self.num_io_tensors = len(self._nodes)
        self.device_memory_size_v2 = 4096 * len(onnx_file.stem)

    def get_tensor_name(self, index: int) -> str:
        return str(self._nodes[index][1].name)

    def get_tensor_mode(self, name: str) -> Any:
        return SimpleNamespace(name=self._by_name[name][0])

    def get_tensor_dtype(self, name: str) -> Any:
        return SimpleNamespace(name=_TYPES[self._by_name[name][1].type])

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        shape = self._by_name[name][1].shape
        return tuple(side if isinstance(side, int) else -1 for side in shape)

    def create_execution_context(self, strategy: str = "static") -> FakeContext:
        return FakeContext(self._queues, self._session, self.device_memory_size_v2, strategy)

    def __del__(self) -> None:
        self._queues.check_current()


class FakeRtxEngine(FakeEngine):
    """Of TensorRT-RTX, which compiles kernels when an engine runs."""

    def create_runtime_config(self) -> FakeRuntimeConfig:
        return FakeRuntimeConfig(self._queues)

    def create_execution_context(self, config: Any = None) -> FakeContext:
        assert isinstance(config, FakeRuntimeConfig)
        self._queues.counts[f"{config.dynamic_shapes_kernel_specialization_strategy} context"] += 1
        cache = config.get_runtime_cache()
        if cache is None or self._file.stem not in cache.kernels:
            self._queues.counts["compiled"] += 1
        if cache is not None:
            cache.kernels.add(self._file.stem)
        strategy = config.get_execution_context_allocation_strategy()
        return FakeRtxContext(self._queues, self._session, self.device_memory_size_v2, strategy)


def fake_tensorrt(queues: Queues, version: str = "11.4.0", rtx: bool = False) -> Any:
    """A module to stand in for ``tensorrt`` or ``tensorrt_rtx``; a plan is the name of an ONNX
    file."""

    class Logger:
        ERROR = "error"

        def __init__(self, severity: str) -> None:
            self.severity = severity

    class ErrorRecorder:
        def report_error(self, code: int, description: str) -> bool:
            raise NotImplementedError

    class Runtime:
        error_recorder: ErrorRecorder

        def __init__(self, log: Logger) -> None:
            queues.check_current()

        def deserialize_cuda_engine(self, plan: bytes) -> FakeEngine | None:
            queues.check_current()
            if not plan.endswith(b".onnx"):
                self.error_recorder.report_error(1, "the plan\n  is damaged")
                return None
            kind = FakeRtxEngine if rtx else FakeEngine
            return kind(queues, Path(plan.decode()))

    return SimpleNamespace(
        __version__=version,
        Logger=Logger,
        IErrorRecorder=ErrorRecorder,
        Runtime=Runtime,
        ProfilingVerbosity=SimpleNamespace(NONE="none"),
        ExecutionContextAllocationStrategy=SimpleNamespace(
            STATIC="static", USER_MANAGED="user managed"
        ),
        DynamicShapesKernelSpecializationStrategy=SimpleNamespace(EAGER="eager"),
    )


def _view(address: int, shape: Any, kind: str) -> Array:
    dtype = np.dtype(_NUMPY[_TYPES[kind]])
    sides = tuple(int(side) for side in shape)
    view: Array = _bytes(address, int(np.prod(sides)) * dtype.itemsize).view(dtype).reshape(sides)
    return view


def _bytes(address: int, size: int) -> Array:
    if not size:
        return np.empty(0, np.uint8)
    buffer = (ctypes.c_uint8 * size).from_address(address)
    return np.frombuffer(memoryview(buffer), np.uint8)
