"""Which library runs a bundle: the best of those that are installed and that it has files for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from visolo_core.errors import NotHereError, VisoloError
from visolo_runtime.bundle import Bundle, Precision
from visolo_runtime.chain import Engines, StreamEngines
from visolo_runtime.tensorrt_library import Library


@dataclass(frozen=True)
class Request:
    """What is asked of a backend."""

    precision: str = ""
    """Of the graphs; without one, the first that the bundle has."""
    threads: int = 0
    """For the engines; 0 lets the library choose."""
    rebuild: bool = False
    """Build TensorRT engines again that do not fit this machine."""


Open = Callable[[Bundle, Request], StreamEngines]


@dataclass(frozen=True)
class Candidate:
    """A backend that can run bundles."""

    name: str
    format: str
    """What it reads."""
    open: Open
    by_name_only: bool = False
    """Not for ``auto``: its files are machine code, which runs as it is."""


@dataclass(frozen=True)
class Choice:
    """The backend that was taken."""

    engines: StreamEngines
    precision: Precision
    passed_over: tuple[str, ...]
    """Why those before it were not, a sentence each."""


def _tensorrt(name: Library) -> Open:
    def open_engines(bundle: Bundle, request: Request) -> StreamEngines:
        from visolo_runtime.tensorrt_backend import open_tensorrt

        return open_tensorrt(bundle, name, request.precision, rebuild=request.rebuild)

    return open_engines


def _openvino(bundle: Bundle, request: Request) -> StreamEngines:
    from visolo_runtime.openvino_backend import OpenVinoBackend

    backend = OpenVinoBackend(
        bundle.graph_files("openvino", request.precision),
        request.threads,
        half=bundle.graphs("openvino", request.precision).precision == "fp16",
    )
    return Engines.compile(backend, bundle.manifest.contract, bundle.manifest.batch)


def _onnxruntime(provider: str) -> Open:
    def open_engines(bundle: Bundle, request: Request) -> StreamEngines:
        from visolo_runtime.onnxruntime_backend import OnnxRuntimeBackend

        backend = OnnxRuntimeBackend(
            bundle.graph_files("onnx", request.precision), request.threads, provider
        )
        return Engines.compile(backend, bundle.manifest.contract, bundle.manifest.batch)

    return open_engines


def _torch(format: str) -> Open:
    def open_engines(bundle: Bundle, request: Request) -> StreamEngines:
        # PyTorch is optional and belongs to another room, so it is asked for only here.
        try:
            from visolo_export.torch_backend import check_compiled, load_graphs
        except ImportError as error:
            raise NotHereError(
                f"PyTorch is not usable here: pip install 'visolo[export]' ({error})"
            ) from error
        if format == "aotinductor":
            check_compiled(bundle.graphs(format, request.precision))
        backend = load_graphs(
            format, bundle.graph_files(format, request.precision), request.threads
        )
        return Engines.compile(backend, bundle.manifest.contract, bundle.manifest.batch)

    return open_engines


CANDIDATES = (
    Candidate("tensorrt", "tensorrt", _tensorrt("tensorrt")),
    Candidate("tensorrt-rtx", "tensorrt-rtx", _tensorrt("tensorrt-rtx")),
    Candidate("onnxruntime-tensorrt", "onnx", _onnxruntime("tensorrt")),
    Candidate("onnxruntime-cuda", "onnx", _onnxruntime("cuda")),
    Candidate("openvino", "openvino", _openvino),
    Candidate("onnxruntime", "onnx", _onnxruntime("cpu")),
    Candidate("torchscript", "torchscript", _torch("torchscript")),
    Candidate("pt2", "pt2", _torch("pt2")),
    Candidate("aotinductor", "aotinductor", _torch("aotinductor"), by_name_only=True),
)
"""Best first, as ``auto`` tries them."""
AUTO = "auto"


def choose(bundle: Bundle, name: str, request: Request) -> Choice:
    """Open a bundle with a backend.

    Args:
        bundle: whose manifest was checked.
        name: of a candidate, or ``auto`` for the first that is usable.
        request: precision, threads and so on.

    Raises:
        VisoloError: if the backend, or every one, cannot be used here; if files are damaged.
    """
    if name != AUTO:
        (candidate,) = (each for each in CANDIDATES if each.name == name)
        return _open(candidate, bundle, request)
    passed_over = []
    for candidate in CANDIDATES:
        had = {(each.format, each.precision) for each in bundle.manifest.graphs}
        if not any(candidate.format == f and request.precision in ("", p) for f, p in had):
            wanted = f"{candidate.format} {request.precision}".strip()
            passed_over.append(f"{candidate.name}: the bundle has no {wanted} graphs")
            continue
        if candidate.by_name_only:
            passed_over.append(f"{candidate.name}: it is machine code, name it with --backend")
            continue
        try:
            return _open(candidate, bundle, request, passed_over)
        except NotHereError as error:  # what is missing is passed over, what is damaged is not
            passed_over.append(f"{candidate.name}: {error}")
    raise VisoloError(f"nothing here can run '{bundle.folder}': {'; '.join(passed_over)}")


def _open(
    candidate: Candidate,
    bundle: Bundle,
    request: Request,
    passed_over: Sequence[str] = (),
) -> Choice:
    precision = bundle.graphs(candidate.format, request.precision).precision
    engines = candidate.open(bundle, replace(request, precision=precision))
    return Choice(engines, precision, tuple(passed_over))
