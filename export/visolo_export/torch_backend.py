"""PyTorch behind the runtime's engine interface: the reference that bundles are held against.

The graphs are the very modules that are exported, so the session code, the buffers and the order
of calls are the same and only the arithmetic's maker differs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from visolo_core.checkpoint import load_checkpoint
from visolo_core.config import InferenceConfig
from visolo_core.contract import GraphName, GraphSpec, contract
from visolo_core.nn import Visolo
from visolo_core.nn.graphs import graph_modules
from visolo_runtime.chain import Engines
from visolo_runtime.engine import Array, Backend, Context, Engine
from visolo_runtime.model import Model


class TorchBackend(Backend):
    """Runs the graph modules of a network on the CPU, eagerly."""

    name = "torch"

    def __init__(self, model: Visolo, threads: int = 0) -> None:
        self._modules: Mapping[GraphName, nn.Module] = graph_modules(model)
        if threads:
            torch.set_num_threads(threads)

    @property
    def description(self) -> str:
        """Library, version and device, for people."""
        return f"PyTorch {torch.__version__}, CPU"

    def engine(self, graph: GraphName, spec: GraphSpec) -> Engine:
        """The module itself."""
        return _TorchEngine(self._modules[graph], spec)


class _TorchEngine(Engine):
    def __init__(self, module: nn.Module, spec: GraphSpec) -> None:
        self._module = module
        self._spec = spec

    def context(self) -> Context:
        return _TorchContext(self._module, self._spec)


class _TorchContext(Context):
    def __init__(self, module: nn.Module, spec: GraphSpec) -> None:
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


def load_weights(path: Path, inference: InferenceConfig, threads: int = 0) -> Model:
    """Weights as a model of the runtime.

    Raises:
        VisoloError: see ``visolo_core.checkpoint.load_checkpoint``.
    """
    checkpoint = load_checkpoint(path)
    network = checkpoint.build()
    config = network.config
    specs = contract(config, slots=max(1, inference.memory_slots))
    engines = Engines.compile(TorchBackend(network, threads), specs)
    return Model(config, inference, checkpoint.header.labels, engines)
