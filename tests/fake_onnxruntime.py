"""ONNX Runtime with a GPU that is none: graphs are computed on the CPU, by the real one.

What the GPU's memory is can only be reached by binding its address or copying a whole value, and no
tensor comes down as an array. Work waits in the stream until somebody waits for it, or is done at
once; what is bound on the host, and ``update_inplace``, go by no stream. A recording is replayed
with the addresses that it was made with, whatever is bound then.
"""

from __future__ import annotations

import ctypes
import threading
import weakref
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from visolo_runtime.engines.nvidia import Gpu

Bound = tuple[str, type, tuple[int, ...], int]
"""Kind of the device, type, shape and address of a tensor."""


class FakeGpu:
    """The memory, the stream and what is counted.

    Args:
        lazy: leave work in the stream until somebody waits for it.

    Recordings fail while ``breaks`` is set.
    """

    def __init__(self, lazy: bool = True) -> None:
        self.lazy, self.breaks = lazy, False
        self.counts: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        self._stream: list[Callable[[], None]] = []
        self._spans: dict[int, int] = {}

    @property
    def live(self) -> int:
        """Pieces of memory that exist."""
        return len(self._spans)

    def give(self, work: Callable[[], None]) -> None:
        self._stream.append(work)
        if not self.lazy:
            self._run_all()

    def wait(self) -> None:
        self.counts["wait"] += 1
        self._run_all()

    def _run_all(self) -> None:
        while self._stream:
            self._stream.pop(0)()

    def add(self, memory: NDArray[np.uint8]) -> int:
        address = memory.ctypes.data
        self._spans[address] = memory.nbytes
        weakref.finalize(memory, self._spans.pop, address).atexit = False
        return address

    def check(self, address: int, nbytes: int) -> None:
        """That so many bytes at an address lie in one piece of memory."""
        assert any(
            begin <= address and address + nbytes <= begin + size
            for begin, size in list(self._spans.items())
        ), "not on the device"


@dataclass
class FakeStream:
    """In place of ``GpuStream``."""

    device: FakeGpu
    address: int = 77
    gpu: Gpu = field(default_factory=lambda: Gpu("RTX", "sm86", 8_000_000_000))

    def wait_for_device(self) -> None:
        self.device.counts["device wait"] += 1
        self.device.wait()


class FakeValue:
    """An ``OrtValue`` on the GPU, full of NaN at first."""

    def __init__(self, gpu: FakeGpu, shape: list[int], dtype: Any) -> None:
        self._gpu = gpu
        nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        self._memory = np.full(nbytes, 0xFF, np.uint8)
        self._address = gpu.add(self._memory)

    def data_ptr(self) -> int:
        return self._address

    def update_inplace(self, values: NDArray[Any]) -> None:
        """On the legacy stream, which does not wait for the other."""
        assert values.nbytes == self._memory.nbytes
        self._gpu.bytes["up"] += values.nbytes
        self._memory[:] = values.view(np.uint8)

    def numpy(self) -> None:
        raise AssertionError("a tensor came down as an array")


class FakeRunOptions:
    def __init__(self) -> None:
        self.entries: dict[str, str] = {}

    def add_run_config_entry(self, name: str, value: str) -> None:
        self.entries[name] = value


class FakeBinding:
    def __init__(self, gpu: FakeGpu) -> None:
        self._gpu = gpu
        self.inputs: dict[str, Bound] = {}
        self.outputs: dict[str, Bound] = {}
        self._copies: dict[str, NDArray[Any]] = {}

    def bind_input(
        self, name: str, kind: str, index: int, dtype: type, shape: tuple[int, ...], address: int
    ) -> None:
        """What is on the host is copied now."""
        if kind == "cpu":
            copy = self._copies[name] = np.empty(shape, dtype)
            ctypes.memmove(copy.ctypes.data, address, copy.nbytes)
            self._gpu.bytes["up"] += copy.nbytes
            address = copy.ctypes.data
        else:
            self._gpu.check(address, _nbytes(dtype, shape))
        self.inputs[name] = kind, dtype, shape, address

    def bind_output(
        self, name: str, kind: str, index: int, dtype: type, shape: tuple[int, ...], address: int
    ) -> None:
        if kind != "cpu":
            self._gpu.check(address, _nbytes(dtype, shape))
        self.outputs[name] = kind, dtype, shape, address


class FakeSession:
    """A session of the real one, whose work goes to the stream."""

    def __init__(self, ort: FakeOnnxRuntime, model: str | bytes, providers: Any) -> None:
        self.name = "copy" if isinstance(model, bytes) else Path(model).stem
        self._ort, self._gpu, self._providers = ort, ort.gpu, providers
        ort.sessions[self.name] = providers
        options = dict(providers)
        assert {each["user_compute_stream"] for each in options.values()} == {"77"}
        cuda = options["CUDAExecutionProvider"]
        self._records = cuda["enable_cuda_graph"] == "1"
        if self._records and self.name in ort.not_recorded:
            raise RuntimeError("This session cannot use the graph capture feature as requested")
        one_thread = onnxruntime.SessionOptions()
        one_thread.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            model, one_thread, providers=["CPUExecutionProvider"]
        )
        self.get_inputs, self.get_outputs = self._session.get_inputs, self._session.get_outputs
        self._recordings: dict[tuple[int, str], tuple[dict[str, Bound], dict[str, Bound]]] = {}

    def get_providers(self) -> list[str]:
        started = [name for name, _ in self._providers] if self._ort.starts else []
        return [*started, "CPUExecutionProvider"]

    def io_binding(self) -> FakeBinding:
        return FakeBinding(self._gpu)

    def run_with_iobinding(self, binding: FakeBinding, options: FakeRunOptions) -> None:
        bound = dict(binding.inputs), dict(binding.outputs)
        waits = options.entries.get("disable_synchronize_execution_providers", "0") == "0"
        # Recordings are kept for each thread; a run without a number has number 0.
        key = threading.get_ident(), options.entries.get("gpu_graph_id", "0")
        if self._records and key[1] != "-1":
            if self._gpu.breaks:
                raise RuntimeError("CUDA error 900: operation not permitted")
            if key not in self._recordings:
                self._gpu.counts["recording"] += 1
                assert waits, "a recording ends with a wait"
                kinds = {each[0] for side in bound for each in side.values()}
                assert kinds == {"cuda"}, "a copy from or to the host cannot be replayed"
            bound = self._recordings.setdefault(key, bound)
        self._gpu.counts[self.name] += 1
        self._gpu.give(lambda: self._compute(*bound))
        if waits:
            self._gpu.wait()

    def _compute(self, inputs: dict[str, Bound], outputs: dict[str, Bound]) -> None:
        inner = self._session.io_binding()
        for bind, tensors in ((inner.bind_input, inputs), (inner.bind_output, outputs)):
            for name, (_, dtype, shape, address) in tensors.items():
                bind(name, "cpu", 0, dtype, shape, address)
        self._session.run_with_iobinding(inner)
        for kind, dtype, shape, _ in outputs.values():
            self._gpu.bytes["down"] += _nbytes(dtype, shape) if kind == "cpu" else 0


class FakeOnnxRuntime:
    """In place of the module ``onnxruntime``.

    Args:
        gpu: which it computes on.
        not_recorded: graphs that the CUDA provider refuses to record.
    """

    __version__ = onnxruntime.__version__
    SessionOptions = onnxruntime.SessionOptions
    RunOptions = FakeRunOptions

    def __init__(self, gpu: FakeGpu, not_recorded: tuple[str, ...] = ()) -> None:
        self.gpu, self.not_recorded = gpu, not_recorded
        self.starts = True
        """Whether the providers start."""
        self.sessions: dict[str, Any] = {}
        """Providers of each session, by its graph."""
        self.OrtValue = self

    def InferenceSession(
        self, model: str | bytes, options: Any, providers: Any, enable_fallback: bool
    ) -> FakeSession:
        assert not enable_fallback
        return FakeSession(self, model, providers)

    def ortvalue_from_shape_and_type(
        self, shape: list[int], dtype: Any, kind: str, index: int
    ) -> FakeValue:
        assert (kind, index) == ("cuda", 0)
        self.gpu.counts["allocation"] += 1
        return FakeValue(self.gpu, shape, dtype)


def _nbytes(dtype: type, shape: tuple[int, ...]) -> int:
    return int(np.prod(shape)) * np.dtype(dtype).itemsize
