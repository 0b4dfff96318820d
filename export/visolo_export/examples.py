"""Inputs that exporters follow through a graph."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from visolo_core.contract import DYNAMIC, GraphSpec, TensorSpec

_EXAMPLE_MASKS = 3  # any number but 0 and 1, which exporters treat as constants


def example_inputs(spec: GraphSpec) -> tuple[Tensor, ...]:
    """Zeros of the right types and shapes, in order."""
    return tuple(_example(tensor) for tensor in spec.inputs)


def dynamic_shapes(spec: GraphSpec) -> tuple[dict[int, Any], ...]:
    """Which axes of the inputs may have any length, as ``torch.export`` wants to hear it."""
    dynamic = torch.export.Dim(DYNAMIC, min=1)
    return tuple(
        {axis: dynamic for axis, side in enumerate(tensor.shape) if side == DYNAMIC}
        for tensor in spec.inputs
    )


def _example(tensor: TensorSpec) -> Tensor:
    shape = [_EXAMPLE_MASKS if side == DYNAMIC else int(side) for side in tensor.shape]
    return torch.zeros(shape, dtype=getattr(torch, tensor.dtype))
