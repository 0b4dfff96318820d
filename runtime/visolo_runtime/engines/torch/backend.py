"""PyTorch on the CPU behind the runtime's engine interface: the reference that bundles are compared
with.

The graphs are the same modules that are exported, so the session code, the buffers and the order of
calls are identical, and only the library that computes differs.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from visolo_core.contract import GraphName, GraphSpec
from visolo_runtime.engines.buffers import Array
from visolo_runtime.engines.engine import Engine
from visolo_runtime.engines.host_buffers import HostBackend, HostContext
from visolo_runtime.engines.torch.graph_files import Function


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
