"""Small tensors that travel between host and device as one block of bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from visolo_core.contract import TensorSpec
from visolo_runtime.engines.buffers import Array


class PackedTensors:
    """Where each of some tensors lies in a block of bytes. There are no gaps.

    Args:
        tensors: with shapes in numbers.
    """

    def __init__(self, tensors: Sequence[TensorSpec]) -> None:
        # Those with the longest numbers first, so that every address is a multiple of its size.
        self._specs = sorted(tensors, key=lambda each: -np.dtype(each.dtype).itemsize)
        self._spans: dict[str, slice] = {}
        end = 0
        for each in self._specs:
            begin, end = end, end + prod(each.sized()) * np.dtype(each.dtype).itemsize
            self._spans[each.name] = slice(begin, end)
        self.nbytes = end
        """Of all of them."""

    def pack(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """A block of bytes with copies of tensors of one device: uint8 [nbytes]."""
        return torch.cat([tensors[each.name].reshape(-1).view(torch.uint8) for each in self._specs])

    def tensors(self, block: Tensor) -> dict[str, Tensor]:
        """The tensors in a block of bytes that is at least as long; they share its memory."""
        return {
            each.name: block[self._spans[each.name]]
            .view(getattr(torch, each.dtype))
            .view(each.sized())
            for each in self._specs
        }

    def arrays(self, block: NDArray[np.uint8]) -> dict[str, Array]:
        """The same for an array in the host's memory."""
        return {
            each.name: block[self._spans[each.name]].view(each.dtype).reshape(each.sized())
            for each in self._specs
        }
