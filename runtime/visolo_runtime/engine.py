"""What every inference library has to offer to run the graphs.

A backend compiles graphs into engines and owns the memory that they work in. A context is one
stream's use of an engine: buffers are bound to the names of the contract, and ``run`` reads and
writes them in place. Engines are shared by sessions, contexts never are.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visolo_core.contract import STREAMS, GraphName, GraphSpec, TensorSpec
from visolo_core.errors import VisoloError

Array = NDArray[Any]


class Context(ABC):
    """One stream's bindings of an engine."""

    @abstractmethod
    def bind_input(self, name: str, buffer: Array) -> None:
        """Read the input ``name`` from ``buffer``, contiguous and of the input's type and shape."""

    @abstractmethod
    def bind_output(self, name: str, buffer: Array) -> None:
        """Write the output ``name`` into ``buffer``, contiguous, of the output's type and shape."""

    @abstractmethod
    def run(self) -> None:
        """Compute all outputs from the bound inputs; done when it returns."""


class Engine(ABC):
    """A compiled graph."""

    @abstractmethod
    def context(self) -> Context:
        """New bindings for one stream."""


class Backend(ABC):
    """An inference library on a device. This base holds its buffers in host memory."""

    name: str

    @abstractmethod
    def engine(self, graph: GraphName, spec: GraphSpec) -> Engine:
        """Compile a graph.

        Raises:
            VisoloError: if the graph cannot be loaded or is not what ``spec`` says.
        """

    @property
    @abstractmethod
    def description(self) -> str:
        """Library, version and device, for people."""

    def allocate(self, spec: TensorSpec, streams: int = 1) -> Array:
        """A buffer of zeros for a tensor of so many streams."""
        return np.zeros((streams, *spec.sized({STREAMS: streams})[1:]), spec.dtype)


def check_signature(
    file: str, found: dict[str, tuple[str, int]], tensors: list[TensorSpec]
) -> None:
    """Check what a graph says of its inputs or outputs against the contract.

    Args:
        file: the graph, for the message.
        found: NumPy type and number of dimensions by name.
        tensors: the contract.

    Raises:
        VisoloError: if they differ.
    """
    expected = {tensor.name: (tensor.dtype, len(tensor.shape)) for tensor in tensors}
    if found != expected:
        wrong = sorted(set(found.items()) ^ set(expected.items()))
        names = ", ".join(dict.fromkeys(name for name, _ in wrong))
        raise VisoloError(
            f"'{file}' does not keep the tensor contract at {names}: export the bundle again"
        )
