"""TensorRT engines: plans loaded, addresses bound, work given to a stream of the device.

``tensorrt`` 10 and 11 and ``tensorrt_rtx`` have the calls that are made here in common. What they
report as False or None becomes an exception with the errors that they recorded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visolo_core.contract import GraphSpec
from visolo_core.errors import NotHereError, VisoloError
from visolo_runtime.engines.engine import Engine, check_signature
from visolo_runtime.engines.tensorrt.current_context import never_free
from visolo_runtime.engines.tensorrt.device import CudaStream, Device
from visolo_runtime.engines.tensorrt.kernel_cache import KernelCache
from visolo_runtime.engines.tensorrt.library import Library, import_library, new_error_recorder

_NUMPY_NAMES = {"FLOAT": "float32", "INT32": "int32", "UINT8": "uint8", "BOOL": "bool"}


@dataclass(frozen=True)
class Scratch:
    """Device memory for what engines compute on the way, which holds nothing between two runs.

    Contexts may share it if their work is done one after the other, as on one stream. Recorded work
    goes on using it where it is.
    """

    address: int
    nbytes: int


class TensorRtRuntime:
    """One of the two libraries, as far as it runs engines.

    Args:
        name: ``tensorrt`` or ``tensorrt-rtx``.
        device: the GPU.
        kernels: where compiled kernels are kept, for a library that compiles them when it runs.

    Raises:
        NotHereError: if it is not installed, or does not start.
    """

    def __init__(self, name: Library, device: Device, kernels: KernelCache | None = None) -> None:
        self.trt = import_library(name)
        self.name, self.device, self.kernels = name, device, kernels
        self.version: str = self.trt.__version__
        self._errors = new_error_recorder(self.trt)
        try:
            with device.current():
                # It prints what the recorder is not given.
                self._logger = self.trt.Logger(self.trt.Logger.ERROR)
                self._runtime = self.trt.Runtime(self._logger)
                self._runtime.error_recorder = self._errors
        except Exception as error:  # without a driver that suits it, of any kind
            first = next(iter(str(error).splitlines()), type(error).__name__)
            raise NotHereError(f"{name} {self.version} does not start here: {first}") from error

    def load(self, plan: Path, spec: GraphSpec) -> TensorRtEngine:
        """Load an engine.

        Raises:
            VisoloError: if it is damaged, of another version, for another GPU, or keeps another
                contract.
        """
        with self.device.current():
            engine = self._runtime.deserialize_cuda_engine(plan.read_bytes())
        if engine is None:
            raise VisoloError(
                f"{self.name} {self.version} cannot load '{plan}': {self.take_reason()}"
            )
        loaded = TensorRtEngine(self, engine, spec)
        del engine  # from here on it is the other's to drop
        loaded.check_signature(plan.name)
        return loaded

    def take_reason(self) -> str:
        """What went wrong since this was called last, in the library's words."""
        return str(self._errors.take_reason())


class TensorRtContext:
    """Addresses of all tensors, and the call that computes."""

    def __init__(self, runtime: TensorRtRuntime, context: Any, spec: GraphSpec) -> None:
        self._runtime, self._context = runtime, context
        self._inputs = spec.inputs

    def bind(self, name: str, address: int) -> None:
        """Read or write the tensor ``name`` at an address of the device."""
        self._check(self._context.set_tensor_address(name, address), f"bind {name}")

    def set_lengths(self, lengths: Mapping[str, int]) -> None:
        """Set the dimensions that are not fixed, ``MASKS`` or ``STREAMS``."""
        for tensor in self._inputs:
            if any(isinstance(side, str) for side in tensor.shape):
                shape = tensor.sized(lengths)
                self._check(self._context.set_input_shape(tensor.name, shape), f"set {shape}")

    def run(self, stream: CudaStream) -> None:
        """Give the work to a stream; it is not done when this returns."""
        self._check(self._context.execute_async_v3(stream.handle), "run")

    def can_be_recorded(self, stream: CudaStream) -> bool:
        """Whether the library allows its work on this stream to be recorded.

        TensorRT-RTX says so; TensorRT has no such call, and the driver refuses what cannot be.
        """
        ask = getattr(self._context, "is_stream_capturable", None)
        return ask is None or bool(ask(stream.handle))

    def _check(self, succeeded: bool, what: str) -> None:
        if not succeeded:
            raise VisoloError(f"{self._runtime.name} cannot {what}: {self._runtime.take_reason()}")

    def __del__(self) -> None:
        if self._runtime.device.failed:
            never_free(self._context)
        with self._runtime.device.current():
            del self._context


class TensorRtEngine(Engine[TensorRtContext]):
    """A plan that was loaded onto a GPU."""

    def __init__(self, runtime: TensorRtRuntime, engine: Any, spec: GraphSpec) -> None:
        self._runtime, self._engine, self._spec = runtime, engine, spec

    def check_signature(self, file: str) -> None:
        """Compare its tensors with the contract.

        Raises:
            VisoloError: if they differ.
        """
        for mode, tensors in (("INPUT", self._spec.inputs), ("OUTPUT", self._spec.outputs)):
            signature = {
                name: (_type(self._engine, name), _axes(self._engine, name))
                for name in map(self._engine.get_tensor_name, range(self._engine.num_io_tensors))
                if self._engine.get_tensor_mode(name).name == mode
            }
            check_signature(file, signature, list(tensors))

    @property
    def scratch_bytes(self) -> int:
        """Bytes of :class:`Scratch` that it needs, whatever the shapes."""
        return int(self._engine.device_memory_size_v2)

    def context(self, recorded: bool = False, scratch: Scratch | None = None) -> TensorRtContext:
        """A new use of it, with addresses of its own; the device's context must be current.

        Args:
            recorded: its work is going to be recorded.
            scratch: at least ``scratch_bytes``, which outlives it; None lets the library allocate
                as much for this context alone.

        Raises:
            VisoloError: if the device has no room for it.
        """
        strategies = self._runtime.trt.ExecutionContextAllocationStrategy
        strategy = strategies.STATIC if scratch is None else strategies.USER_MANAGED
        context = self._engine.create_execution_context(self._settings(recorded, strategy))
        if context is None:
            raise VisoloError(f"{self._runtime.name} has no room: {self._runtime.take_reason()}")
        if scratch is not None:
            context.set_device_memory(scratch.address, scratch.nbytes)
        # Engines are built to say what every layer is, and would say it to a profiler every time.
        context.nvtx_verbosity = self._runtime.trt.ProfilingVerbosity.NONE
        return TensorRtContext(self._runtime, context, self._spec)

    def _settings(self, recorded: bool, strategy: Any) -> Any:
        """How a context is made. For TensorRT that is where its scratch memory comes from;
        TensorRT-RTX, which compiles kernels when it runs, is also told how to go about it.

        Its own recording (``cuda_graph_strategy``) stays off as it is by default: the engines' work
        is recorded here, for each slot that it writes to, and one recording cannot hold another.
        """
        if self._runtime.name != "tensorrt-rtx":
            return strategy
        settings = self._engine.create_runtime_config()
        settings.set_execution_context_allocation_strategy(strategy)
        if recorded:
            # By default kernels for a shape are compiled in the background, and others run until
            # they are ready: those would be recorded, and replayed for good.
            strategy = self._runtime.trt.DynamicShapesKernelSpecializationStrategy.EAGER
            settings.dynamic_shapes_kernel_specialization_strategy = strategy
        if self._runtime.kernels is not None:
            self._runtime.kernels.share(settings)
        return settings

    def __del__(self) -> None:
        if self._runtime.device.failed:
            never_free(self._engine)
        with self._runtime.device.current():
            del self._engine


def _type(engine: Any, name: str) -> str:
    kind: str = engine.get_tensor_dtype(name).name
    return _NUMPY_NAMES.get(kind, kind.lower())


def _axes(engine: Any, name: str) -> int:
    return len(tuple(engine.get_tensor_shape(name)))
