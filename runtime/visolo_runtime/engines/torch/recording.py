"""Work that is recorded once as a CUDA graph and replayed with one launch."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Protocol, TypeVar

import torch

Result = TypeVar("Result")
_ONE_AT_A_TIME = Lock()  # PyTorch waits for the whole device first, which no recording survives


class Recorder(Protocol):
    """Records what a function gives to a device."""

    def record(self, work: Callable[[], Result]) -> tuple[Callable[[], None], Result]:
        """Record a function, which must have run once before; nothing is computed yet.

        Args:
            work: allocates whatever it returns, and waits for nothing.

        Returns:
            a function that gives the work to the device again, and what ``work`` returned: its
            tensors have new values after each replay, at the same addresses.

        Raises:
            RuntimeError: if the work cannot be recorded.
        """


class CudaGraphs:
    """A recorder of CUDA graphs.

    Their working memory is shared, so only one of them may be under way at a time, and what one
    returned is valid until the next is replayed.

    Args:
        stream: that the work is given to.
    """

    def __init__(self, stream: torch.cuda.Stream) -> None:
        self._stream = stream
        self._pool = torch.cuda.graph_pool_handle()

    def record(self, work: Callable[[], Result]) -> tuple[Callable[[], None], Result]:
        """Capture in thread-local mode: other threads may use the device meanwhile."""
        graph = torch.cuda.CUDAGraph()
        with (
            _ONE_AT_A_TIME,
            torch.cuda.graph(
                graph,
                pool=self._pool,
                stream=self._stream,
                capture_error_mode="thread_local",
            ),
        ):
            result = work()
        return graph.replay, result
