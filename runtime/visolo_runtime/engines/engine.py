"""What an inference library must provide to run the graphs.

A *graph* is an exported function; an *engine* is a graph compiled by a library; a *backend* is a
library on a device, which compiles graphs. A context is one use of an engine: its tensors are bound
to buffers by their names in the contract, and running it reads and writes them in place. Sessions
share engines, but never contexts.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from visolo_core.contract import GRAPHS, GraphName, GraphSpec, TensorSpec
from visolo_core.errors import VisoloError
from visolo_runtime.engines.buffers import Buffers

Context = TypeVar("Context", covariant=True)


class Engine(ABC, Generic[Context]):
    """A compiled graph."""

    @abstractmethod
    def context(self) -> Context:
        """A new context, with its own bindings.

        Raises:
            VisoloError: if there is not enough memory.
        """


class Backend(ABC):
    """An inference library on a device."""

    name: str
    """The value of ``--backend``, or the first word of it."""

    @property
    @abstractmethod
    def description(self) -> str:
        """Library, version and device, for display."""

    @abstractmethod
    def engine(self, graph: GraphName, spec: GraphSpec) -> Engine[Any]:
        """Compile a graph.

        Raises:
            VisoloError: if the graph cannot be loaded or does not match ``spec``.
        """

    @abstractmethod
    def buffers(self, engines: Engines, rows: int) -> Buffers:
        """Buffers for ``rows`` streams, and contexts of ``engines`` bound to them.

        Raises:
            VisoloError: if the device is out of memory.
        """


@dataclass(frozen=True)
class Engines:
    """The compiled graphs of one model, shared by all its sessions."""

    backend: Backend
    contract: dict[GraphName, GraphSpec]
    by_graph: Mapping[GraphName, Engine[Any]]
    batch: int = 1
    """Neighbouring rows that can go through the frame and memory graphs together."""

    @classmethod
    def compile(
        cls, backend: Backend, contract: dict[GraphName, GraphSpec], batch: int = 1
    ) -> Engines:
        """Compile all graphs of a contract.

        Args:
            backend: compiles the graphs.
            contract: of the graphs.
            batch: the batch of the contract.

        Raises:
            VisoloError: if one of them cannot be compiled.
        """
        compiled = {graph: backend.engine(graph, contract[graph]) for graph in GRAPHS}
        engines = cls(backend, contract, compiled, batch)
        engines.buffers().warm_up()
        return engines

    @property
    def description(self) -> str:
        """Library, version and device, for display."""
        return self.backend.description

    def buffers(self, rows: int = 1) -> Buffers:
        """Buffers for ``rows`` streams, a row each.

        Raises:
            VisoloError: if the device is out of memory.
        """
        return self.backend.buffers(self, rows)


def check_signature(
    file: str, signature: dict[str, tuple[str, int]], tensors: list[TensorSpec]
) -> None:
    """Check the inputs or outputs of a compiled graph against the contract.

    Args:
        file: the graph's file, for the message.
        signature: NumPy type and number of dimensions of each tensor, by name.
        tensors: the contract's.

    Raises:
        VisoloError: if they differ.
    """
    expected = {tensor.name: (tensor.dtype, len(tensor.shape)) for tensor in tensors}
    if signature != expected:
        differing = sorted(set(signature.items()) ^ set(expected.items()))
        names = ", ".join(dict.fromkeys(name for name, _ in differing))
        raise VisoloError(
            f"'{file}' does not match the tensor contract ({names}): export the bundle again"
        )
