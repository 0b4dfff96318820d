"""Engines of PyTorch from weights or from a bundle, on the CPU or on a GPU."""

from __future__ import annotations

from visolo_core.contract import contract
from visolo_core.nn.checkpoint import Checkpoint
from visolo_core.nn.graphs import graph_modules
from visolo_runtime.bundle import Bundle, GraphFiles
from visolo_runtime.engines.device_name import DeviceName
from visolo_runtime.engines.engine import Backend, Engines
from visolo_runtime.engines.torch.backend import TorchBackend
from visolo_runtime.engines.torch.device_backend import TorchDeviceBackend
from visolo_runtime.engines.torch.graph_files import load_graph
from visolo_runtime.engines.torch.placing import (
    check_compiled,
    compiled_kind,
    modules_on,
    torch_device,
)

_CPU = DeviceName("cpu")
_TOGETHER = 8
"""Streams that go through modules on a GPU together; they take any number."""


def weights_engines(
    checkpoint: Checkpoint,
    slots: int,
    threads: int = 0,
    device: DeviceName = _CPU,
    half: bool = False,
    use_graphs: bool = True,
) -> Engines:
    """The graphs of a network in PyTorch: on the CPU in float32, the reference.

    Args:
        checkpoint: weights and configuration.
        slots: stored frames T that a frame can read.
        threads: number of PyTorch's threads; 0 does not change it.
        device: to run on.
        half: convolutions in float16; on a GPU only.
        use_graphs: record the work of a frame as a CUDA graph and replay it; on a GPU only.

    Raises:
        NotHereError: if PyTorch cannot use the device here.
        VisoloError: if it is out of memory.
    """
    place, network = torch_device(device), checkpoint.build()
    if device.kind == "cpu":
        backend: Backend = TorchBackend(graph_modules(network), "", threads)
        return Engines.compile(backend, contract(network.config, slots=max(1, slots)))
    backend = TorchDeviceBackend(
        modules_on(network, place, half), place, " fp16" if half else "", use_graphs
    )
    sized = contract(network.config, max(1, slots), _TOGETHER)
    return Engines.compile(backend, sized, _TOGETHER)


def bundle_engines(
    bundle: Bundle,
    graphs: GraphFiles,
    threads: int = 0,
    device: DeviceName | None = None,
    use_graphs: bool = True,
) -> Engines:
    """The graphs of a bundle in one of PyTorch's formats.

    Args:
        bundle: it has ``graphs``.
        graphs: in ``torchscript``, ``pt2`` or ``aotinductor``.
        threads: number of PyTorch's threads; 0 does not change it.
        device: to run on; None means the one that they were compiled for, or the CPU.
        use_graphs: record the work of a frame as a CUDA graph and replay it; on a GPU only.

    Raises:
        NotHereError: if PyTorch cannot use the device here, or the graphs were compiled for
            another.
        VisoloError: if a file is not in this format.
    """
    files = bundle.files_of(graphs)
    compiled = graphs.format == "aotinductor"
    name = device or (compiled_kind(graphs) if compiled else _CPU)
    if compiled:
        check_compiled(graphs, name)
    place = torch_device(name)
    modules = {graph: load_graph(graphs.format, file, place) for graph, file in files.items()}
    form = f" {graphs.format}"
    backend: Backend = TorchBackend(modules, form, threads)
    if name.kind == "cuda":
        backend = TorchDeviceBackend(modules, place, form, use_graphs)
    return Engines.compile(backend, bundle.manifest.contract, bundle.manifest.batch)
