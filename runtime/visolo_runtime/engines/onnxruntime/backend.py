"""ONNX Runtime on the CPU, and what all of its providers have in common."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import nullcontext, redirect_stdout
from importlib import metadata
from pathlib import Path
from typing import Any, TypeAlias

from visolo_core.contract import GraphName, GraphSpec
from visolo_core.distribution import RUNTIMES, installed_distribution, pip_install
from visolo_core.errors import NotHereError, VisoloError
from visolo_runtime.engines.buffers import Array
from visolo_runtime.engines.engine import Engine, check_signature
from visolo_runtime.engines.host_buffers import HostBackend, HostContext

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
Providers: TypeAlias = list[tuple[str, Mapping[str, str]]]
"""With their options, best first."""
COPY = "copy"
"""Name of the graph that copies bytes from one address to another."""
_NUMPY_NAMES = {
    "tensor(float)": "float32",
    "tensor(int32)": "int32",
    "tensor(uint8)": "uint8",
    "tensor(bool)": "bool",
}


class OnnxRuntimeBackend(HostBackend):
    """Runs ONNX files on the CPU.

    Args:
        files: the ONNX file of each graph.
        threads: within an operator; 0 lets ONNX Runtime choose.

    Raises:
        NotHereError: if ONNX Runtime is not installed.
    """

    name = "onnxruntime"

    def __init__(self, files: dict[GraphName, Path], threads: int = 0) -> None:
        self._files, self._threads = files, threads
        self._ort = import_with_provider("cpu")

    @property
    def description(self) -> str:
        """Library, version and device, for display."""
        return f"ONNX Runtime {self._ort.__version__}, CPU"

    def engine(self, graph: GraphName, spec: GraphSpec) -> Engine[HostContext]:
        """Load and optimise a graph."""
        providers: Providers = [(PROVIDERS["cpu"], {})]
        file = self._files[graph]
        return _OnnxEngine(open_session(self._ort, graph, file, spec, providers, self._threads))


def open_session(
    onnxruntime: Any,
    graph: str,
    model: Path | bytes,
    spec: GraphSpec,
    providers: Providers,
    threads: int = 0,
) -> Any:
    """Load and optimise a graph.

    Args:
        onnxruntime: the module.
        graph: its name.
        model: ONNX, or the file that it is in.
        spec: its contract.
        providers: that are to compute it.
        threads: within an operator on the CPU; 0 lets ONNX Runtime choose.

    Raises:
        NotHereError: if the first of the providers does not start.
        VisoloError: if the file cannot be loaded, or does not match the contract.
    """
    source = graph if isinstance(model, bytes) else str(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Four sessions take turns on the same cores: none may keep spinning after its run.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if graph in ("decode", COPY):
        # It would keep a memory plan for every number of masks, or of bytes, that there ever was.
        options.enable_mem_pattern = False
    # Where a provider refuses, old versions print so to stdout and go on with another provider; new
    # ones do that unless they are told not to.
    quiet = nullcontext() if providers[0][0] == PROVIDERS["cpu"] else redirect_stdout(sys.stderr)
    try:
        with quiet:
            session = onnxruntime.InferenceSession(
                model if isinstance(model, bytes) else source,
                options,
                providers=providers,
                enable_fallback=False,
            )
    except Exception as error:  # onnxruntime raises a dozen types without a common base
        raise VisoloError(
            f"ONNX Runtime cannot load '{source}': {' '.join(str(error).split())[:200]}"
        ) from error
    # A provider that does not start is dropped without an exception: only this list shows it.
    first = providers[0][0]
    if session.get_providers()[0] != first:
        raise NotHereError(
            f"ONNX Runtime's {first} does not start here, so it would run on the CPU: check the "
            "driver, CUDA and cuDNN"
        )
    for nodes, tensors in (
        (session.get_inputs(), spec.inputs),
        (session.get_outputs(), spec.outputs),
    ):
        signature = {
            node.name: (_NUMPY_NAMES.get(node.type, node.type), len(node.shape)) for node in nodes
        }
        check_signature(Path(source).name, signature, list(tensors))
    return session


class _OnnxEngine(Engine[HostContext]):
    def __init__(self, session: Any) -> None:
        self._session = session

    def context(self) -> HostContext:
        """A context with I/O binding: the graph reads and writes the buffers without copies."""
        return _OnnxContext(self._session)


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


def import_with_provider(provider: str) -> Any:
    """ONNX Runtime, if it has a provider.

    Args:
        provider: a key of ``PROVIDERS``.

    Raises:
        NotHereError: if it is not installed, or has no such provider.
    """
    onnxruntime = _import_onnxruntime()
    name = PROVIDERS[provider]
    if name not in onnxruntime.get_available_providers():
        raise NotHereError(
            f"this ONNX Runtime has no {name}: run {pip_install('gpu')}, or 'visolo doctor' to see "
            "what is installed"
        )
    return onnxruntime


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
