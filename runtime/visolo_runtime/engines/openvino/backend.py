"""OpenVINO on the CPU."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path
from typing import Any

from visolo_core.contract import GraphName, GraphSpec
from visolo_core.distribution import pip_install
from visolo_core.errors import NotHereError, VisoloError
from visolo_runtime.engines.buffers import Array
from visolo_runtime.engines.engine import Engine, check_signature
from visolo_runtime.engines.host_buffers import HostBackend, HostContext
from visolo_runtime.engines.openvino.library import import_openvino
from visolo_runtime.engines.openvino.upsampling import rewrite_upsampling
from visolo_runtime.engines.openvino.winograd_rewriting import rewrite_convolutions

_X86 = ("x86_64", "amd64")
_MOST_TENSORS = 256
_NUMPY_NAMES = {"f32": "float32", "i32": "int32", "u8": "uint8", "boolean": "bool"}


class OpenVinoBackend(HostBackend):
    """Runs OpenVINO's own files, or ONNX files, on the CPU.

    Args:
        files: the file of each graph.
        threads: per inference; 0 lets OpenVINO choose.
        half: compute in float16 if the CPU supports it, otherwise in float32.
        winograd: compute mask features by Winograd's convolution; x86 and float32 graphs only.
    """

    name = "openvino"

    def __init__(
        self,
        files: dict[GraphName, Path],
        threads: int = 0,
        half: bool = False,
        winograd: bool = False,
    ) -> None:
        self._files = files
        self._openvino = _import_openvino()
        self._core = shared_core()
        self._half = half and "FP16" in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        self._half_weights = half
        # Elsewhere OpenVINO uses other libraries, with which nothing was measured.
        self._winograd = winograd and platform.machine().lower() in _X86
        self.rewritten: tuple[str, ...] = ()
        """Names of the mask graph's convolutions that were replaced, once it is compiled."""
        self._options: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
        if threads:
            self._options["INFERENCE_NUM_THREADS"] = threads

    @property
    def description(self) -> str:
        """Library, version and device, for display."""
        weights = " with float16 weights" if self._half_weights and not self._half else ""
        computes = " in float16" if self._half else " with Winograd" if self.rewritten else ""
        version = self._openvino.__version__.split("-")[0]
        return f"OpenVINO {version}{computes}{weights}, CPU"

    def engine(self, graph: GraphName, spec: GraphSpec) -> Engine[HostContext]:
        """Compile a graph."""
        file = self._files[graph]
        # Without a hint of float32, OpenVINO rounds to bfloat16 on CPUs that have it, also if the
        # hint is a float16 that they lack. The decode graph counts pixels, which needs float32.
        half = self._half and graph != "decode"
        options = {**self._options, "INFERENCE_PRECISION_HINT": "f16" if half else "f32"}
        try:
            model = self._core.read_model(str(file))
            if self._winograd and graph == "mask":
                self.rewritten = rewrite_convolutions(model, "mask_features")
            if graph == "decode":
                rewrite_upsampling(model)
            compiled = self._core.compile_model(model, "CPU", options)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[-200:]
            raise VisoloError(f"OpenVINO cannot load '{file}': {reason}") from error
        for ports, tensors in ((compiled.inputs, spec.inputs), (compiled.outputs, spec.outputs)):
            known = {tensor.name for tensor in tensors}
            signature = {
                _name(port, known): (_type(port), len(port.partial_shape)) for port in ports
            }
            check_signature(file.name, signature, list(tensors))
        return _OpenVinoEngine(self._openvino, compiled)


class _OpenVinoEngine(Engine[HostContext]):
    def __init__(self, openvino: Any, compiled: Any) -> None:
        self._openvino = openvino
        self._compiled = compiled

    def context(self) -> HostContext:
        return _OpenVinoContext(self._openvino, self._compiled.create_infer_request())


class _OpenVinoContext(HostContext):
    """A context whose tensors share the buffers' memory, without copies."""

    def __init__(self, openvino: Any, request: Any) -> None:
        self._openvino = openvino
        self._request = request
        self._tensors: dict[tuple[int, tuple[int, ...]], Any] = {}
        """By address and shape. Making one takes longer than binding it, and sessions bind the same
        few again and again. Each keeps its array alive, so no other can have its address."""

    def bind_input(self, name: str, buffer: Array) -> None:
        place = buffer.__array_interface__["data"][0], buffer.shape
        tensor = self._tensors.get(place)
        if tensor is None:
            if len(self._tensors) >= _MOST_TENSORS:
                self._tensors.clear()
            tensor = self._openvino.Tensor(buffer, shared_memory=True)
            self._tensors[place] = tensor
        self._request.set_tensor(name, tensor)

    bind_output = bind_input

    def run(self) -> None:
        self._request.infer()


@cache
def shared_core() -> Any:
    """OpenVINO's core, one for the process and never released.

    Its CPU plugin replaces the stack on which the thread handles signals, and restores the previous
    one when it is released. Two plugins released in the order of their creation leave the thread
    with a freed stack, and the next signal (Ctrl-C, the end of a child) kills the process silently.
    """
    return _import_openvino().Core()


def _name(port: Any, known: set[str]) -> str:
    """The contract's name of a port, which may also have names of tensors merged into it."""
    names = {str(name) for name in port.names}
    return min(names & known or names)


def _type(port: Any) -> str:
    name = str(port.element_type.get_type_name())
    return _NUMPY_NAMES.get(name, name)


def _import_openvino() -> Any:
    try:
        return import_openvino()
    except ImportError as error:
        raise NotHereError(
            f"OpenVINO is not usable here: run {pip_install('openvino')} ({error})"
        ) from error
