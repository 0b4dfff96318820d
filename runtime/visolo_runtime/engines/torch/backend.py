"""PyTorch behind the runtime's engine interface: the reference that bundles are compared with.

The graphs are the same modules that are exported, so the session code, the buffers and the order of
calls are identical, and only the library that computes differs.
"""

from __future__ import annotations

import platform
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from visolo_core.contract import GraphName, GraphSpec, contract
from visolo_core.errors import NotHereError, VisoloError
from visolo_core.nn.checkpoint import Checkpoint
from visolo_core.nn.graphs import graph_modules
from visolo_runtime.bundle import GraphFiles
from visolo_runtime.engines.buffers import Array
from visolo_runtime.engines.engine import Engine, Engines
from visolo_runtime.engines.host_buffers import HostBackend, HostContext
from visolo_runtime.engines.torch.archive import plain_program

Function = Callable[..., Any]


class TorchBackend(HostBackend):
    """Runs modules, or programs exported from them, on the CPU.

    Args:
        modules: one per graph.
        form: the format of the modules, for display.
        threads: number of PyTorch's threads; 0 does not change it.
    """

    name = "torch"

    def __init__(self, modules: Mapping[GraphName, Function], form: str, threads: int = 0) -> None:
        self._modules = modules
        self._form = form
        if threads:
            torch.set_num_threads(threads)

    @property
    def description(self) -> str:
        """Library, version and device, for display."""
        return f"PyTorch {torch.__version__}{self._form}, CPU"

    def engine(self, graph: GraphName, spec: GraphSpec) -> Engine[HostContext]:
        """The module itself."""
        return _TorchEngine(self._modules[graph], spec)


class _TorchEngine(Engine[HostContext]):
    def __init__(self, module: Function, spec: GraphSpec) -> None:
        self._module = module
        self._spec = spec

    def context(self) -> HostContext:
        return _TorchContext(self._module, self._spec)


class _TorchContext(HostContext):
    def __init__(self, module: Function, spec: GraphSpec) -> None:
        self._module = module
        self._spec = spec
        self._buffers: dict[str, Array] = {}

    def bind_input(self, name: str, buffer: Array) -> None:
        self._buffers[name] = buffer

    bind_output = bind_input

    @torch.inference_mode()
    def run(self) -> None:
        inputs = [torch.from_numpy(self._buffers[name]) for name in self._spec.names("inputs")]
        outputs = self._module(*inputs)
        if isinstance(outputs, torch.Tensor):
            outputs = (outputs,)
        for name, output in zip(self._spec.names("outputs"), outputs, strict=True):
            torch.from_numpy(self._buffers[name]).copy_(output)


def weights_engines(checkpoint: Checkpoint, slots: int, threads: int = 0) -> Engines:
    """The graphs of a network in PyTorch: the reference.

    Args:
        checkpoint: weights and configuration.
        slots: stored frames T that a frame can read.
        threads: number of PyTorch's threads; 0 does not change it.
    """
    network = checkpoint.build()
    backend = TorchBackend(graph_modules(network), "", threads)
    return Engines.compile(backend, contract(network.config, slots=max(1, slots)))


def load_graphs(format: str, files: dict[GraphName, Path], threads: int = 0) -> TorchBackend:
    """The graphs of a bundle in one of PyTorch's formats.

    Args:
        format: ``torchscript``, ``pt2`` or ``aotinductor``.
        files: the file of each graph.
        threads: number of PyTorch's threads; 0 does not change it.

    Raises:
        VisoloError: if a file is not in this format.
    """
    modules = {graph: _load(format, file) for graph, file in files.items()}
    return TorchBackend(modules, f" {format}", threads)


def processor() -> str:
    """The processor that AOTInductor compiles for, such as ``x86_64 AVX512``."""
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"


def check_compiled(graphs: GraphFiles) -> None:
    """Check that AOTInductor's machine code was compiled for this machine.

    Raises:
        NotHereError: if it was compiled by another PyTorch or for another processor.
    """
    built, here = (graphs.library, *graphs.targets), (torch.__version__, processor())
    if built != here:
        raise NotHereError(
            f"compiled by PyTorch {' for '.join(map(str, built))}, but this is PyTorch "
            f"{' on '.join(here)}: export --format aotinductor on this machine"
        )


def _load(format: str, file: Path) -> Function:
    try:
        if format == "torchscript":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that TorchScript is deprecated
                script: Function = torch.jit.load(str(file), map_location="cpu")  # type: ignore[no-untyped-call]
            return script
        if format == "aotinductor":
            from torch._inductor import aoti_load_package

            compiled: Function = aoti_load_package(str(file))
            return compiled
        return torch.export.load(plain_program(file)).module()
    except Exception as error:  # PyTorch raises many types
        reason = " ".join(str(error).split())[:200]
        raise VisoloError(f"PyTorch cannot load '{file}': {reason}") from error
