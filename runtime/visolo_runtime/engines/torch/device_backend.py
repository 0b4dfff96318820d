"""PyTorch on a GPU, behind the runtime's engine interface."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from visolo_core.contract import GraphName, GraphSpec
from visolo_runtime.engines.engine import Backend, Engine, Engines
from visolo_runtime.engines.torch.device_buffers import TorchBuffers
from visolo_runtime.engines.torch.graph_files import Function


class TorchDeviceBackend(Backend):
    """Runs modules, or programs exported from them, with all tensors on their device.

    Args:
        modules: one per graph, on the device.
        device: a GPU with its index; tests name the CPU.
        form: the format of the modules, for display.
        use_graphs: record the work of a frame as a CUDA graph and replay it.
    """

    name = "torch"

    def __init__(
        self,
        modules: Mapping[GraphName, Function],
        device: torch.device,
        form: str = "",
        use_graphs: bool = True,
    ) -> None:
        self._modules, self._device = modules, device
        self._form, self._use_graphs = form, use_graphs

    @property
    def description(self) -> str:
        """Library, version and device, for display."""
        place = "CPU"
        if self._device.type == "cuda":
            place = torch.cuda.get_device_name(self._device)
        return f"PyTorch {torch.__version__}{self._form}, {place}"

    def engine(self, graph: GraphName, spec: GraphSpec) -> Engine[Function]:
        """The module itself."""
        return _TorchDeviceEngine(self._modules[graph])

    def buffers(self, engines: Engines, rows: int) -> TorchBuffers:
        """On the device."""
        return TorchBuffers(engines, rows, self._device, self._use_graphs)


class _TorchDeviceEngine(Engine[Function]):
    def __init__(self, module: Function) -> None:
        self._module = module

    def context(self) -> Function:
        return self._module
