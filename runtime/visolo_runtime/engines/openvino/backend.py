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
from visolo_runtime.engines.openvino.upsampling import rewrite_upsampling
from visolo_runtime.engines.openvino.winograd_rewriting import rewrite_convolutions

_X86 = ("x86_64", "amd64")
_NUMPY_NAMES = {"f32": "float32", "u8": "uint8", "boolean": "bool"}


class OpenVinoBackend(HostBackend):
    """Runs OpenVINO's own files, or ONNX files, on the CPU.

    Args:
        files: the file of each graph.
        threads: of an inference; 0 lets OpenVINO choose.
        half: compute in float16 where the CPU can; it takes float32 where it cannot.
        winograd: compute mask features by Winograd's convolution, on x86; for graphs in float32.
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
        # Elsewhere OpenVINO computes with other libraries, and nothing was measured.
        self._winograd = winograd and platform.machine().lower() in _X86
        self.rewritten: tuple[str, ...] = ()
        """Convolutions of the frame graph that are Winograd's, by name, once it is compiled."""
        self._options: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
        if threads:
            self._options["INFERENCE_NUM_THREADS"] = threads

    @property
    def description(self) -> str:
        """Library, version and device, for people."""
        weights = " with float16 weights" if self._half_weights and not self._half else ""
        computes = " in float16" if self._half else " with Winograd" if self.rewritten else ""
        version = self._openvino.__version__.split("-")[0]
        return f"OpenVINO {version}{computes}{weights}, CPU"

    def engine(self, graph: GraphName, spec: GraphSpec) -> Engine[HostContext]:
        """Compile a graph."""
        file = self._files[graph]
        # OpenVINO rounds to bfloat16 on CPUs that have it, even where float16 is requested that
        # they lack, unless float32 is requested explicitly. Pixels are counted in float32.
        half = self._half and graph != "decode"
        options = {**self._options, "INFERENCE_PRECISION_HINT": "f16" if half else "f32"}
        try:
            model = self._core.read_model(str(file))
            if self._winograd and graph == "frame":
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
    """Tensors that share the buffers' memory: nothing is copied."""

    def __init__(self, openvino: Any, request: Any) -> None:
        self._openvino = openvino
        self._request = request

    def bind_input(self, name: str, buffer: Array) -> None:
        self._request.set_tensor(name, self._openvino.Tensor(buffer, shared_memory=True))

    bind_output = bind_input

    def run(self) -> None:
        self._request.infer()


@cache
def shared_core() -> Any:
    """OpenVINO's core, one for the process and never given up.

    Its CPU plugin sets the stack on which the thread handles signals, and brings back what it has
    found when it goes. Two of them that go in the order in which they came leave a stack that is
    freed, and the next signal (Ctrl-C, the end of a child) ends the process without a word.
    """
    return _import_openvino().Core()


def _name(port: Any, known: set[str]) -> str:
    """OpenVINO may keep the names of tensors that it has merged into this one."""
    names = {str(name) for name in port.names}
    return min(names & known or names)


def _type(port: Any) -> str:
    name = str(port.element_type.get_type_name())
    return _NUMPY_NAMES.get(name, name)


def _import_openvino() -> Any:
    try:
        import openvino
    except ImportError as error:
        raise NotHereError(
            f"OpenVINO is not usable here: {pip_install('openvino')} ({error})"
        ) from error
    return openvino
