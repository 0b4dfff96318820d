"""Which backend runs a bundle: the best of those that are installed and that it has files for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from visolo_core.distribution import pip_install
from visolo_core.errors import NotHereError, VisoloError

if TYPE_CHECKING:  # names of backends are listed before anything heavy is loaded
    from visolo_runtime.bundle import Bundle, Format, GraphFiles, Precision
    from visolo_runtime.engines.engine import Engines
    from visolo_runtime.engines.tensorrt.library import Library

Open: TypeAlias = "Callable[[Bundle, GraphFiles, int], Engines]"
"""Opens these graphs of a bundle, with so many threads; 0 lets the library choose."""


@dataclass(frozen=True)
class BackendSpec:
    """A backend that can run bundles, before its library is imported."""

    name: str
    formats: tuple[Format, ...]
    """What it reads, best first."""
    open: Open
    by_name_only: str = ""
    """Why ``auto`` never takes it; empty if it may."""


@dataclass(frozen=True)
class Choice:
    """A bundle that was opened."""

    engines: Engines
    precision: Precision
    passed_over: tuple[str, ...]
    """Why better backends were passed over, a sentence each."""


def _tensorrt(name: Library) -> Open:
    def open_engines(bundle: Bundle, graphs: GraphFiles, threads: int) -> Engines:
        from visolo_runtime.engines.tensorrt.backend import open_tensorrt

        return open_tensorrt(bundle, graphs, name)

    return open_engines


def _openvino(winograd: bool) -> Open:
    def open_engines(bundle: Bundle, graphs: GraphFiles, threads: int) -> Engines:
        from visolo_runtime.engines.engine import Engines
        from visolo_runtime.engines.openvino.backend import OpenVinoBackend

        backend = OpenVinoBackend(
            bundle.files_of(graphs),
            threads,
            half=graphs.precision == "fp16",
            winograd=winograd and graphs.precision == "fp32",
        )
        return Engines.compile(backend, bundle.manifest.contract, bundle.manifest.batch)

    return open_engines


def _onnxruntime(provider: str) -> Open:
    def open_engines(bundle: Bundle, graphs: GraphFiles, threads: int) -> Engines:
        from visolo_runtime.engines.engine import Engines
        from visolo_runtime.engines.onnxruntime.backend import OnnxRuntimeBackend

        backend = OnnxRuntimeBackend(bundle.files_of(graphs), threads, provider)
        return Engines.compile(backend, bundle.manifest.contract, bundle.manifest.batch)

    return open_engines


def _torch(bundle: Bundle, graphs: GraphFiles, threads: int) -> Engines:
    from visolo_runtime.engines.engine import Engines

    try:
        from visolo_runtime.engines.torch.backend import check_compiled, load_graphs
    except ImportError as error:
        raise NotHereError(
            f"PyTorch is not usable here: {pip_install('export')} ({error})"
        ) from error
    if graphs.format == "aotinductor":
        check_compiled(graphs)
    backend = load_graphs(graphs.format, bundle.files_of(graphs), threads)
    return Engines.compile(backend, bundle.manifest.contract, bundle.manifest.batch)


BACKENDS = (
    BackendSpec("tensorrt", ("tensorrt",), _tensorrt("tensorrt")),
    BackendSpec("tensorrt-rtx", ("tensorrt-rtx",), _tensorrt("tensorrt-rtx")),
    BackendSpec("onnxruntime-tensorrt", ("onnx",), _onnxruntime("tensorrt")),
    BackendSpec("onnxruntime-cuda", ("onnx",), _onnxruntime("cuda")),
    BackendSpec("openvino", ("openvino", "onnx"), _openvino(winograd=True)),
    BackendSpec("onnxruntime", ("onnx",), _onnxruntime("cpu")),
    BackendSpec("torchscript", ("torchscript",), _torch),
    BackendSpec("pt2", ("pt2",), _torch),
    BackendSpec("aotinductor", ("aotinductor",), _torch, "it is machine code"),
    BackendSpec(
        "openvino-direct",
        ("openvino", "onnx"),
        _openvino(winograd=False),
        "it is openvino without what makes that quicker",
    ),
)
"""Best first, as ``auto`` tries them."""
AUTO = "auto"


def choose(bundle: Bundle, name: str, precision: str = "", threads: int = 0) -> Choice:
    """Open a bundle with a backend.

    Args:
        bundle: whose manifest was checked.
        name: of a backend, or ``auto`` for the first that is usable.
        precision: of the graphs; without one, the first that the bundle has.
        threads: for the engines; 0 lets the library choose.

    Raises:
        VisoloError: if the backend, or every one, cannot be used here; if files are damaged.
    """
    if name != AUTO:
        (spec,) = (each for each in BACKENDS if each.name == name)
        graphs = _graphs(spec, bundle, precision)
        if graphs is None:
            graphs = bundle.graphs(spec.formats[0], precision)  # says what is there
        return Choice(spec.open(bundle, graphs, threads), graphs.precision, ())
    passed_over = []
    for spec in BACKENDS:
        graphs = _graphs(spec, bundle, precision)
        if graphs is None:
            wanted = f"{spec.formats[0]} {precision}".strip()
            passed_over.append(f"{spec.name}: the bundle has no {wanted} graphs")
            continue
        if spec.by_name_only:
            reason = spec.by_name_only
            passed_over.append(f"{spec.name}: {reason}, name it with --backend")
            continue
        try:
            engines = spec.open(bundle, graphs, threads)
            return Choice(engines, graphs.precision, tuple(passed_over))
        except NotHereError as error:  # what is missing is passed over, what is damaged is not
            passed_over.append(f"{spec.name}: {error}")
    raise VisoloError(f"nothing here can run '{bundle.folder}': {'; '.join(passed_over)}")


def _graphs(spec: BackendSpec, bundle: Bundle, precision: str) -> GraphFiles | None:
    """What of a bundle a backend would read."""
    for format in spec.formats:
        for graphs in bundle.manifest.graphs:
            if graphs.format == format and precision in ("", graphs.precision):
                return graphs
    return None
