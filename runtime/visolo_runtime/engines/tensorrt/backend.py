"""TensorRT engines of a bundle, on a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from visolo_core.contract import GraphName, GraphSpec
from visolo_core.errors import VisoloError
from visolo_core.pixels import PixelGraph, pixel_contract
from visolo_runtime.bundle import Bundle, GraphFiles
from visolo_runtime.engines.engine import Backend, Engines
from visolo_runtime.engines.tensorrt.device import Device, cuda_device
from visolo_runtime.engines.tensorrt.device_buffers import DeviceBuffers
from visolo_runtime.engines.tensorrt.engine import TensorRtEngine, TensorRtRuntime
from visolo_runtime.engines.tensorrt.kernel_cache import KernelCache, kernel_file
from visolo_runtime.engines.tensorrt.library import Library, import_library


class TensorRtBackend(Backend):
    """TensorRT or TensorRT-RTX on a GPU.

    Args:
        runtime: the library, on that GPU.
        plans: the engine file of each graph.
        use_graphs: record the engines' work and replay it.
        pixels: engines that resize frames; without any, the host does.
    """

    def __init__(
        self,
        runtime: TensorRtRuntime,
        plans: dict[GraphName, Path],
        use_graphs: bool = True,
        pixels: Mapping[PixelGraph, TensorRtEngine] = MappingProxyType({}),
    ) -> None:
        self.name, self.device, self._pixels = runtime.name, runtime.device, pixels
        self._runtime, self._plans, self._use_graphs = runtime, plans, use_graphs

    @property
    def description(self) -> str:
        """Library, version and device, for people."""
        return f"{self.name} {self._runtime.version}, {self.device.name}"

    def engine(self, graph: GraphName, spec: GraphSpec) -> TensorRtEngine:
        """Load a plan."""
        return self._runtime.load(self._plans[graph], spec)

    def buffers(self, engines: Engines, rows: int) -> DeviceBuffers:
        """On the GPU."""
        return DeviceBuffers(self.device, engines, rows, self._use_graphs, self._pixels)


def open_tensorrt(
    bundle: Bundle, graphs: GraphFiles, name: Library, gpu: int = 0, use_graphs: bool = True
) -> Engines:
    """Load the engines of a bundle.

    Args:
        bundle: it has ``graphs``.
        graphs: engines of the format ``name``.
        name: ``tensorrt`` or ``tensorrt-rtx``.
        gpu: index of the GPU.
        use_graphs: record the engines' work and replay it.

    Raises:
        NotHereError: if the library, pycuda or the GPU is missing.
        VisoloError: if the engines were built by another version or for another GPU.
    """
    plans = bundle.files_of(graphs)
    device = find_device(name, gpu)
    checksums = [bundle.manifest.files[graphs.files[graph]].sha256 for graph in plans]
    kernels = KernelCache(kernel_file(device.architecture, checksums))
    runtime = TensorRtRuntime(name, device, kernels)
    check_fit(bundle, graphs, runtime.version, device.architecture)
    contract = pixel_contract(bundle.manifest.model.input_size)
    pixels = {
        graph: runtime.load(plan, contract[graph])
        for graph, plan in bundle.pixel_files_of(graphs).items()
    }
    backend = TensorRtBackend(runtime, plans, use_graphs, pixels)
    engines = Engines.compile(backend, bundle.manifest.contract, bundle.manifest.batch)
    with device.current():
        kernels.save()
    return engines


def find_device(name: Library, gpu: int = 0) -> Device:
    """The GPU for a library. What is missing is noticed before the library is started: without a
    GPU it fails in ways of its own.

    Raises:
        NotHereError: if the library, pycuda or the GPU is missing.
    """
    import_library(name)
    return cuda_device(gpu)


def check_fit(bundle: Bundle, graphs: GraphFiles, version: str, architecture: str) -> None:
    """Make sure that engines can run here, before TensorRT says so in its own words.

    Args:
        bundle: for the command to mend it.
        graphs: what the bundle says of its engines.
        version: of the library that is installed.
        architecture: of the GPU, such as ``sm86``.

    Raises:
        VisoloError: if they cannot.
    """
    again = _how_to_rebuild(bundle, graphs, architecture)
    if graphs.library != version:
        raise VisoloError(
            f"the engines in '{bundle.folder}' were built by {graphs.format} {graphs.library}, "
            f"here it is {version}: {again}"
        )
    if graphs.targets and architecture not in graphs.targets:
        raise VisoloError(
            f"the engines in '{bundle.folder}' were built for {', '.join(graphs.targets)}, this "
            f"GPU is {architecture}: {again}"
        )


def _how_to_rebuild(bundle: Bundle, graphs: GraphFiles, architecture: str) -> str:
    target = f" --target {architecture}" if graphs.format == "tensorrt-rtx" else ""
    return (
        f"run visolo rebuild {bundle.folder} --format {graphs.format} "
        f"--precision {graphs.precision}{target}, or export the weights again"
    )
