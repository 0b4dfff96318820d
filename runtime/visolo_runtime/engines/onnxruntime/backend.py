"""ONNX Runtime on the CPU, or on a GPU through one of its execution providers."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

from visolo_core.contract import GraphName, GraphSpec
from visolo_core.distribution import RUNTIMES, installed_distribution, pip_install
from visolo_core.errors import NotHereError, VisoloError
from visolo_runtime.engines.buffers import Array
from visolo_runtime.engines.engine import Engine, check_signature
from visolo_runtime.engines.host_buffers import HostBackend, HostContext
from visolo_runtime.engines.onnxruntime.libraries import load_gpu_libraries

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
# On GPUs from Ampere on, float32 products have ten bits by default. fp16 graphs keep in float32
# what needs it, so this suits every precision. The TensorRT provider has no such option.
_OPTIONS = {PROVIDERS["cuda"]: {"use_tf32": "0"}}
_NUMPY_NAMES = {
    "tensor(float)": "float32",
    "tensor(int32)": "int32",
    "tensor(uint8)": "uint8",
    "tensor(bool)": "bool",
}


class OnnxRuntimeBackend(HostBackend):
    """Runs ONNX files.

    Args:
        files: the ONNX file of each graph.
        threads: within an operator; 0 lets ONNX Runtime choose.
        provider: a key of ``PROVIDERS``.
        gpu: index of the GPU, for providers that use one.

    Raises:
        NotHereError: if ONNX Runtime is not installed, or has no such provider, or that one needs
            a driver or a library that is missing.
    """

    name = "onnxruntime"

    def __init__(
        self,
        files: dict[GraphName, Path],
        threads: int = 0,
        provider: str = "cpu",
        gpu: int = 0,
    ) -> None:
        self._files = files
        self._threads = threads
        self._ort = _import_onnxruntime()
        self._provider = PROVIDERS[provider]
        self._options = dict(_OPTIONS.get(self._provider, {}))
        if provider != "cpu":
            self._options["device_id"] = str(gpu)
        if self._provider not in self._ort.get_available_providers():
            raise NotHereError(
                f"this ONNX Runtime has no {self._provider}: run {pip_install('gpu')}, or "
                "'visolo doctor' to see what is installed"
            )
        if provider != "cpu":
            load_gpu_libraries(self._ort, provider)

    @property
    def description(self) -> str:
        """Library, version and device, for display."""
        device = self._provider.removesuffix("ExecutionProvider")
        return f"ONNX Runtime {self._ort.__version__}, {device}"

    def engine(self, graph: GraphName, spec: GraphSpec) -> Engine[HostContext]:
        """Load and optimise a graph."""
        options = self._ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.log_severity_level = 3
        # Four sessions take turns on the same cores: none may keep spinning after its run.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        if graph == "decode":
            # It would keep a memory plan for every number of masks that was ever decoded.
            options.enable_mem_pattern = False
        file = self._files[graph]
        try:
            providers = [(self._provider, self._options)]
            session = self._ort.InferenceSession(str(file), options, providers=providers)
        except Exception as error:  # onnxruntime raises a dozen types without a common base
            raise VisoloError(
                f"ONNX Runtime cannot load '{file}': {' '.join(str(error).split())[:200]}"
            ) from error
        # A provider that does not start is dropped without an exception: only this list shows it.
        if session.get_providers()[0] != self._provider:
            raise NotHereError(
                f"ONNX Runtime's {self._provider} does not start here, so it would run on the CPU: "
                "check the driver, CUDA and cuDNN"
            )
        for nodes, tensors in (
            (session.get_inputs(), spec.inputs),
            (session.get_outputs(), spec.outputs),
        ):
            signature = {
                node.name: (_NUMPY_NAMES.get(node.type, node.type), len(node.shape))
                for node in nodes
            }
            check_signature(file.name, signature, list(tensors))
        return OnnxEngine(session, on_gpu=self._provider != PROVIDERS["cpu"])


class OnnxEngine(Engine[HostContext]):
    """A session of ONNX Runtime.

    Args:
        session: on one provider.
        on_gpu: whether that one computes on a GPU.
    """

    def __init__(self, session: Any, on_gpu: bool) -> None:
        self._session, self._on_gpu = session, on_gpu

    def context(self) -> HostContext:
        """A context with I/O binding. On the CPU, the graph reads and writes the buffers without
        copies; a GPU's provider copies inputs and outputs at each run."""
        return _GpuContext(self._session) if self._on_gpu else _OnnxContext(self._session)


class _OnnxContext(HostContext):
    def __init__(self, session: Any) -> None:
        self._session = session
        self._binding = session.io_binding()
        # ONNX Runtime keeps addresses, not references.
        self._inputs: dict[str, Array] = {}
        self._outputs: dict[str, Array] = {}

    def bind_input(self, name: str, buffer: Array) -> None:
        self._inputs[name] = buffer
        self._binding.bind_input(name, "cpu", 0, buffer.dtype, buffer.shape, buffer.ctypes.data)

    def bind_output(self, name: str, buffer: Array) -> None:
        self._outputs[name] = buffer
        self._binding.bind_output(name, "cpu", 0, buffer.dtype, buffer.shape, buffer.ctypes.data)

    def run(self) -> None:
        self._session.run_with_iobinding(self._binding)


class _GpuContext(_OnnxContext):
    """Binds its inputs again before each run: a GPU's provider copies a buffer in host memory when
    it is bound, and would otherwise go on computing with what was in it then."""

    def run(self) -> None:
        for name, buffer in self._inputs.items():
            self.bind_input(name, buffer)
        super().run()
        self._binding.synchronize_outputs()


def _import_onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise NotHereError(
            "ONNX Runtime is not usable here: run "
            f"'pip install {RUNTIMES[installed_distribution()]}', or 'visolo doctor' to see what "
            f"is installed ({error})"
        ) from error
    return onnxruntime


def installed_runtimes() -> dict[str, str]:
    """The ONNX Runtime packages that are installed, with their versions.

    They all install into the same folder, ``onnxruntime``, so only one may be installed.
    """
    versions = {}
    for name in ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
