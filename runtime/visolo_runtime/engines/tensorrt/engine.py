"""TensorRT engines: plans loaded, addresses bound, work given to a stream of the device.

``tensorrt`` 10 and 11 and ``tensorrt_rtx`` have the calls that are made here in common. What they
report as False or None becomes an exception with the lines of their log.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from visolo_core.contract import GraphSpec
from visolo_core.errors import VisoloError
from visolo_runtime.engines.engine import Engine, check_signature
from visolo_runtime.engines.tensorrt.device import CudaStream
from visolo_runtime.engines.tensorrt.library import Library, import_library, new_log

_NUMPY_NAMES = {"FLOAT": "float32", "UINT8": "uint8", "BOOL": "bool"}


class TensorRtRuntime:
    """One of the two libraries, as far as it runs engines.

    Args:
        name: ``tensorrt`` or ``tensorrt-rtx``.

    Raises:
        NotHereError: if it is not installed.
    """

    def __init__(self, name: Library) -> None:
        self._trt = import_library(name)
        self.name = name
        self.version: str = self._trt.__version__
        self._log = new_log(self._trt, keep=False)
        self._runtime = self._trt.Runtime(self._log)

    def load(self, plan: Path, spec: GraphSpec) -> TensorRtEngine:
        """Load an engine; the device's context must be current.

        Raises:
            VisoloError: if it is damaged, of another version, for another GPU, or keeps another
                contract.
        """
        self._log.errors.clear()
        engine = self._runtime.deserialize_cuda_engine(plan.read_bytes())
        if engine is None:
            raise VisoloError(f"{self.name} {self.version} cannot load '{plan}': {self.reason()}")
        for mode, tensors in (("INPUT", spec.inputs), ("OUTPUT", spec.outputs)):
            names = [
                name
                for name in map(engine.get_tensor_name, range(engine.num_io_tensors))
                if engine.get_tensor_mode(name).name == mode
            ]
            signature = {name: (_type(engine, name), _axes(engine, name)) for name in names}
            check_signature(plan.name, signature, list(tensors))
        return TensorRtEngine(self, engine, spec)

    def reason(self) -> str:
        """What went wrong, in the library's words."""
        return str(self._log.reason())


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

    def _check(self, succeeded: bool, what: str) -> None:
        if not succeeded:
            raise VisoloError(f"{self._runtime.name} cannot {what}: {self._runtime.reason()}")


class TensorRtEngine(Engine[TensorRtContext]):
    """A plan that was loaded onto a GPU."""

    def __init__(self, runtime: TensorRtRuntime, engine: Any, spec: GraphSpec) -> None:
        self._runtime, self._engine, self._spec = runtime, engine, spec

    def context(self) -> TensorRtContext:
        """A new use of it, with addresses of its own."""
        context = self._engine.create_execution_context()
        if context is None:
            raise VisoloError(f"{self._runtime.name} has no room: {self._runtime.reason()}")
        return TensorRtContext(self._runtime, context, self._spec)


def _type(engine: Any, name: str) -> str:
    kind: str = engine.get_tensor_dtype(name).name
    return _NUMPY_NAMES.get(kind, kind.lower())


def _axes(engine: Any, name: str) -> int:
    return len(tuple(engine.get_tensor_shape(name)))
