"""Which library runs a bundle: the best of those that are installed and that it has files for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from visolo_core.errors import NotHereError, VisoloError
from visolo_runtime.bundle import Bundle, Format, GraphFiles, Precision
from visolo_runtime.chain import StreamEngines
from visolo_runtime.engine import Backend
from visolo_runtime.engine_chain import Engines
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


Open = Callable[[Bundle, GraphFiles, Request], StreamEngines]
"""Opens these graphs of a bundle."""


@dataclass(frozen=True)
class Candidate:
    """A backend that can run bundles."""

    name: str
    formats: tuple[Format, ...]
    """What it reads, best first."""
    open: Open
    by_name_only: str = ""
    """Why ``auto`` never takes it; empty if it may."""


@dataclass(frozen=True)
class Choice:
    """The backend that was taken."""

    engines: StreamEngines
    precision: Precision
    passed_over: tuple[str, ...]
    """Why those before it were not, a sentence each."""


def _tensorrt(name: Library) -> Open:
    def open_engines(bundle: Bundle, graphs: GraphFiles, request: Request) -> StreamEngines:
        from visolo_runtime.tensorrt_backend import open_tensorrt

        return open_tensorrt(bundle, name, graphs.precision, rebuild=request.rebuild)

    return open_engines


def _openvino(winograd: bool) -> Open:
    def open_engines(bundle: Bundle, graphs: GraphFiles, request: Request) -> StreamEngines:
        from visolo_runtime.openvino_backend import OpenVinoBackend

        backend = OpenVinoBackend(
            bundle.files_of(graphs),
            request.threads,
            half=graphs.precision == "fp16",
            winograd=winograd and graphs.precision == "fp32",
        )
        return _compile(bundle, backend)

    return open_engines


def _onnxruntime(provider: str) -> Open:
    def open_engines(bundle: Bundle, graphs: GraphFiles, request: Request) -> StreamEngines:
        from visolo_runtime.onnxruntime_backend import OnnxRuntimeBackend

        files = bundle.files_of(graphs)
        return _compile(bundle, OnnxRuntimeBackend(files, request.threads, provider))

    return open_engines


def _torch(bundle: Bundle, graphs: GraphFiles, request: Request) -> StreamEngines:
    # PyTorch is optional and belongs to another room, so it is asked for only here.
    try:
        from visolo_export.torch_backend import check_compiled, load_graphs
    except ImportError as error:
        raise NotHereError(
            f"PyTorch is not usable here: pip install 'visolo[export]' ({error})"
        ) from error
    if graphs.format == "aotinductor":
        check_compiled(graphs)
    return _compile(bundle, load_graphs(graphs.format, bundle.files_of(graphs), request.threads))


def _compile(bundle: Bundle, backend: Backend) -> Engines:
    return Engines.compile(backend, bundle.manifest.contract, bundle.manifest.batch)


CANDIDATES = (
    Candidate("tensorrt", ("tensorrt",), _tensorrt("tensorrt")),
    Candidate("tensorrt-rtx", ("tensorrt-rtx",), _tensorrt("tensorrt-rtx")),
    Candidate("onnxruntime-tensorrt", ("onnx",), _onnxruntime("tensorrt")),
    Candidate("onnxruntime-cuda", ("onnx",), _onnxruntime("cuda")),
    Candidate("openvino", ("openvino", "onnx"), _openvino(winograd=True)),
    Candidate("onnxruntime", ("onnx",), _onnxruntime("cpu")),
    Candidate("torchscript", ("torchscript",), _torch),
    Candidate("pt2", ("pt2",), _torch),
    Candidate("aotinductor", ("aotinductor",), _torch, "it is machine code"),
    Candidate(
        "openvino-direct",
        ("openvino", "onnx"),
        _openvino(winograd=False),
        "it is openvino without what makes that quicker",
    ),
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
        graphs = _graphs(candidate, bundle, request.precision)
        if graphs is None:
            graphs = bundle.graphs(candidate.formats[0], request.precision)  # says what is there
        return Choice(candidate.open(bundle, graphs, request), graphs.precision, ())
    passed_over = []
    for candidate in CANDIDATES:
        graphs = _graphs(candidate, bundle, request.precision)
        if graphs is None:
            wanted = f"{candidate.formats[0]} {request.precision}".strip()
            passed_over.append(f"{candidate.name}: the bundle has no {wanted} graphs")
            continue
        if candidate.by_name_only:
            reason = candidate.by_name_only
            passed_over.append(f"{candidate.name}: {reason}, name it with --backend")
            continue
        try:
            engines = candidate.open(bundle, graphs, request)
            return Choice(engines, graphs.precision, tuple(passed_over))
        except NotHereError as error:  # what is missing is passed over, what is damaged is not
            passed_over.append(f"{candidate.name}: {error}")
    raise VisoloError(f"nothing here can run '{bundle.folder}': {'; '.join(passed_over)}")


def _graphs(candidate: Candidate, bundle: Bundle, precision: str) -> GraphFiles | None:
    """What of a bundle a backend would read."""
    for format in candidate.formats:
        for graphs in bundle.manifest.graphs:
            if graphs.format == format and precision in ("", graphs.precision):
                return graphs
    return None
