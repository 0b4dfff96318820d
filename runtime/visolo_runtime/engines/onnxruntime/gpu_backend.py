"""ONNX Runtime on a GPU, through its CUDA or its TensorRT provider."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from itertools import count
from pathlib import Path
from typing import Any, Literal, TypeAlias

from visolo_core.contract import GraphName, GraphSpec
from visolo_core.errors import VisoloError
from visolo_runtime.bundle import Bundle, GraphFiles
from visolo_runtime.engines.engine import Backend, Engine, Engines
from visolo_runtime.engines.onnxruntime.backend import (
    PROVIDERS,
    Providers,
    import_with_provider,
    open_session,
)
from visolo_runtime.engines.onnxruntime.cuda_stream import gpu_stream
from visolo_runtime.engines.onnxruntime.device import OrtContext, OrtDevice
from visolo_runtime.engines.onnxruntime.device_buffers import OrtDeviceBuffers
from visolo_runtime.engines.onnxruntime.libraries import load_gpu_libraries
from visolo_runtime.engines.onnxruntime.provider_options import (
    cuda_options,
    engine_cache,
    tensorrt_options,
    without_tf32,
)
from visolo_runtime.engines.onnxruntime.workplace import Workplace

_LOG = logging.getLogger(__name__)
GpuProvider = Literal["cuda", "tensorrt"]
ProvidersOf: TypeAlias = Callable[[GraphName, GraphSpec, bool], Providers | None]
"""Providers for a graph that is recorded as a CUDA graph, or is not; None if it cannot be."""
_recordings = count(1)
"""Numbers of recordings. None is used twice: ONNX Runtime keeps each until its session ends."""


class OrtDeviceBackend(Backend):
    """Runs ONNX files on a device, where the tensors stay.

    Args:
        device: where the tensors are.
        files: the ONNX file of each graph.
        providers: for each graph.
        title: of the provider, for display.
    """

    name = "onnxruntime"

    def __init__(
        self,
        device: OrtDevice,
        files: Mapping[GraphName, Path],
        providers: ProvidersOf,
        title: str,
    ) -> None:
        self.device, self._files = device, files
        self._providers, self._title = providers, title
        self._free: dict[int, list[Workplace]] = {}
        """Workplaces that nobody uses, by their number of rows."""

    @property
    def description(self) -> str:
        """Library, version and device, for display."""
        return f"ONNX Runtime {self.device.onnxruntime.__version__}, {self._title}"

    def engine(self, graph: GraphName, spec: GraphSpec) -> OrtDeviceEngine:
        """Load and optimise a graph; where the provider refuses to record it, without that."""
        recorded = self._providers(graph, spec, True)
        if recorded is not None:
            try:
                return self._open(graph, spec, recorded, records=True)
            except VisoloError as error:
                # Control flow, or nodes on the CPU; whatever else it is comes up again below.
                _LOG.info("the %s graph is not recorded as a CUDA graph: %s", graph, error)
        plain = self._providers(graph, spec, False)
        assert plain is not None
        return self._open(graph, spec, plain, records=False)

    def _open(
        self, graph: GraphName, spec: GraphSpec, providers: Providers, records: bool
    ) -> OrtDeviceEngine:
        ort = self.device.onnxruntime
        session = open_session(ort, graph, self._files[graph], spec, providers)
        return OrtDeviceEngine(self.device, session, spec, records)

    def buffers(self, engines: Engines, rows: int) -> OrtDeviceBuffers:
        """On the device, in a workplace that earlier buffers have left or in a new one."""
        free = self._free.setdefault(rows, [])
        try:
            workplace = free.pop()
        except IndexError:
            workplace = Workplace(self.device, engines, rows)
        return OrtDeviceBuffers(engines, rows, workplace, free.append)


class OrtDeviceEngine(Engine[OrtContext]):
    """A session of ONNX Runtime on a device.

    Args:
        device: where its tensors are.
        session: of the graph.
        spec: of the graph.
        records: whether the session records what it runs as a CUDA graph.
    """

    def __init__(self, device: OrtDevice, session: Any, spec: GraphSpec, records: bool) -> None:
        self._device, self._session, self._spec = device, session, spec
        self.records = records

    def context(self) -> OrtContext:
        """A context, recorded if the session records: its addresses must not change then."""
        recording = next(_recordings) if self.records else None
        return OrtContext(self._device, self._session, self._spec, recording)


def open_on_gpu(
    bundle: Bundle,
    graphs: GraphFiles,
    provider: GpuProvider,
    gpu: int = 0,
    use_graphs: bool = True,
) -> Engines:
    """Load a bundle's ONNX graphs with a GPU provider.

    Args:
        bundle: it has ``graphs``.
        graphs: of the format ``onnx``.
        provider: ``cuda`` or ``tensorrt``.
        gpu: index of the GPU.
        use_graphs: record work as CUDA graphs where the provider can, and replay it.

    Raises:
        NotHereError: if ONNX Runtime is not installed or has no such provider, or that one needs
            a driver or a library that is missing.
        VisoloError: if the graphs cannot be loaded, or the device is out of memory.
    """
    ort = import_with_provider(provider)
    with without_tf32() if provider == "tensorrt" else nullcontext():
        load_gpu_libraries(ort, provider)
        stream = gpu_stream(gpu)
    manifest = bundle.manifest
    cuda = (PROVIDERS["cuda"], cuda_options(stream.address, gpu))
    files = bundle.files_of(graphs)
    places = int(manifest.contract["frame"].outputs[1].shape[1])
    checksums = [manifest.files[graphs.files[graph]].sha256 for graph in files]
    cache = _made(engine_cache(stream.gpu.architecture, graphs.precision, checksums))

    def providers(graph: GraphName, spec: GraphSpec, records: bool) -> Providers | None:
        if provider == "tensorrt":
            if records:
                return None
            options = tensorrt_options(
                stream.address, gpu, spec, graphs.precision, manifest.batch, places, cache
            )
            # What TensorRT leaves is computed by CUDA's provider, not on the CPU.
            return [(PROVIDERS["tensorrt"], options), cuda]
        if records and (graph == "memory" or not use_graphs):  # it is bound anew for each slot
            return None
        return [(PROVIDERS["cuda"], cuda_options(stream.address, gpu, records))]

    device = OrtDevice(ort, "cuda", [cuda], stream, gpu)
    title = f"{PROVIDERS[provider].removesuffix('ExecutionProvider')}, {stream.gpu.name}"
    backend = OrtDeviceBackend(device, files, providers, title)
    return Engines.compile(backend, manifest.contract, manifest.batch)


def _made(folder: Path | None) -> Path | None:
    """A folder that exists and can be written, or none."""
    if folder is not None:
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            return folder
    return None
