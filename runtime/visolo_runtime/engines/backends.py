"""Choosing the backend that runs a bundle: the best installed one that it has graphs for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from visolo_core.distribution import pip_install
from visolo_core.errors import NotHereError, VisoloError
from visolo_runtime.engines.device_name import DeviceKind, DeviceName, parse_device

if TYPE_CHECKING:  # listing the names of backends must not load anything heavy
    from visolo_runtime.bundle import Bundle, Format, GraphFiles, Precision
    from visolo_runtime.engines.engine import Engines
    from visolo_runtime.engines.tensorrt.library import Library


@dataclass(frozen=True)
class Placement:
    """Where engines run."""

    threads: int = 0
    """0 lets the library choose"""
    device: DeviceName | None = None
    """one that the backend runs on; None leaves it to the backend"""

    @property
    def gpu(self) -> int:
        """Index of the GPU for a backend that runs on nothing else."""
        return self.device.index if self.device else 0


Open: TypeAlias = "Callable[[Bundle, GraphFiles, Placement], Engines]"
"""Compiles graphs of a bundle."""


@dataclass(frozen=True)
class BackendSpec:
    """A backend that can run bundles, before its library is imported."""

    name: str
    formats: tuple[Format, ...]
    """Formats it reads, best first."""
    open: Open
    devices: tuple[DeviceKind, ...] = ("cpu",)
    """Kinds of devices it runs on."""
    by_name_only: str = ""
    """Why ``auto`` never chooses it; empty if it may."""

    def runs_on(self, device: DeviceName | None) -> bool:
        """Whether it has such a device; any backend has one for None."""
        return device is None or device.kind in self.devices


@dataclass(frozen=True)
class Choice:
    """A bundle opened with the chosen backend."""

    engines: Engines
    precision: Precision
    passed_over: tuple[str, ...]
    """Why better backends were not used, one sentence each."""


def _tensorrt(name: Library) -> Open:
    def open_engines(bundle: Bundle, graphs: GraphFiles, placement: Placement) -> Engines:
        from visolo_runtime.engines.tensorrt.backend import open_tensorrt

        return open_tensorrt(bundle, graphs, name, placement.gpu)

    return open_engines


def _openvino(winograd: bool) -> Open:
    def open_engines(bundle: Bundle, graphs: GraphFiles, placement: Placement) -> Engines:
        from visolo_runtime.engines.engine import Engines
        from visolo_runtime.engines.openvino.backend import OpenVinoBackend

        backend = OpenVinoBackend(
            bundle.files_of(graphs),
            placement.threads,
            half=graphs.precision == "fp16",
            winograd=winograd and graphs.precision == "fp32",
        )
        return Engines.compile(backend, bundle.manifest.contract, bundle.manifest.batch)

    return open_engines


def _onnxruntime(bundle: Bundle, graphs: GraphFiles, placement: Placement) -> Engines:
    from visolo_runtime.engines.engine import Engines
    from visolo_runtime.engines.onnxruntime.backend import OnnxRuntimeBackend

    backend = OnnxRuntimeBackend(bundle.files_of(graphs), placement.threads)
    return Engines.compile(backend, bundle.manifest.contract, bundle.manifest.batch)


def _onnxruntime_on_gpu(provider: Literal["cuda", "tensorrt"]) -> Open:
    def open_engines(bundle: Bundle, graphs: GraphFiles, placement: Placement) -> Engines:
        from visolo_runtime.engines.onnxruntime.gpu_backend import open_on_gpu

        return open_on_gpu(bundle, graphs, provider, placement.gpu)

    return open_engines


def _torch(bundle: Bundle, graphs: GraphFiles, placement: Placement) -> Engines:
    try:
        from visolo_runtime.engines.torch.opening import bundle_engines
    except ImportError as error:
        raise NotHereError(
            f"PyTorch is not usable here: run {pip_install('export')} ({error})"
        ) from error
    return bundle_engines(bundle, graphs, placement.threads, placement.device)


_GPU: tuple[DeviceKind, ...] = ("cuda",)
_ANY: tuple[DeviceKind, ...] = ("cpu", "cuda")
BACKENDS = (
    BackendSpec("tensorrt", ("tensorrt",), _tensorrt("tensorrt"), _GPU),
    BackendSpec("tensorrt-rtx", ("tensorrt-rtx",), _tensorrt("tensorrt-rtx"), _GPU),
    BackendSpec("onnxruntime-tensorrt", ("onnx",), _onnxruntime_on_gpu("tensorrt"), _GPU),
    BackendSpec("onnxruntime-cuda", ("onnx",), _onnxruntime_on_gpu("cuda"), _GPU),
    BackendSpec("openvino", ("openvino", "onnx"), _openvino(winograd=True)),
    BackendSpec("onnxruntime", ("onnx",), _onnxruntime),
    BackendSpec("torchscript", ("torchscript",), _torch, _ANY),
    BackendSpec("pt2", ("pt2",), _torch, _ANY),
    BackendSpec("aotinductor", ("aotinductor",), _torch, _ANY, "it runs machine code"),
    BackendSpec(
        "openvino-direct",
        ("openvino", "onnx"),
        _openvino(winograd=False),
        by_name_only="it is openvino without its faster convolutions",
    ),
)
"""Best first, as ``auto`` tries them."""
AUTO = "auto"


def choose(
    bundle: Bundle, name: str, precision: str = "", threads: int = 0, device: str = ""
) -> Choice:
    """Open a bundle with a backend.

    Args:
        bundle: an opened bundle.
        name: of a backend, or ``auto`` for the first that is usable.
        precision: of the graphs; empty uses the first in the bundle.
        threads: for the engines; 0 lets the library choose.
        device: ``cpu``, ``cuda`` or ``cuda:N``; empty leaves it to the backend.

    Raises:
        VisoloError: if the backend, or with ``auto`` every backend, cannot be used here or on the
            device, or files are damaged.
    """
    placement = Placement(threads, parse_device(device))
    if name != AUTO:
        (spec,) = (each for each in BACKENDS if each.name == name)
        _check_device(spec, placement.device)
        graphs = _graphs(spec, bundle, precision)
        if graphs is None:
            graphs = bundle.graphs(spec.formats[0], precision)  # raises, listing the graphs
        return Choice(spec.open(bundle, graphs, placement), graphs.precision, ())
    passed_over = []
    for spec in BACKENDS:
        if not spec.runs_on(placement.device):
            passed_over.append(f"{spec.name}: it does not run on {placement.device}")
            continue
        graphs = _graphs(spec, bundle, precision)
        if graphs is None:
            form = f"{spec.formats[0]} {precision}".strip()
            passed_over.append(f"{spec.name}: the bundle has no {form} graphs")
            continue
        if spec.by_name_only:
            passed_over.append(f"{spec.name}: {spec.by_name_only}, name it with --backend")
            continue
        try:
            engines = spec.open(bundle, graphs, placement)
            return Choice(engines, graphs.precision, tuple(passed_over))
        except NotHereError as error:  # a missing library is no error here, a damaged file is
            passed_over.append(f"{spec.name}: {error}")
    raise VisoloError(f"nothing here can run '{bundle.folder}': {'; '.join(passed_over)}")


def _check_device(spec: BackendSpec, device: DeviceName | None) -> None:
    if not spec.runs_on(device):
        others = ", ".join(each.name for each in BACKENDS if each.runs_on(device))
        raise VisoloError(
            f"backend {spec.name} does not run on {device}: leave --device out, or choose a "
            f"backend for it ({others})"
        )


def _graphs(spec: BackendSpec, bundle: Bundle, precision: str) -> GraphFiles | None:
    """The graphs of a bundle that a backend would use; None if it has none."""
    for format in spec.formats:
        for graphs in bundle.manifest.graphs:
            if graphs.format == format and precision in ("", graphs.precision):
                return graphs
    return None
