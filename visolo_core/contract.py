"""The tensor contract: names, types and shapes of what goes in and out of the three graphs.

Whoever writes a graph and whoever runs one take the names from here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from visolo_core.config import ModelConfig

GraphName = Literal["frame", "memory", "decode"]
GRAPHS: tuple[GraphName, ...] = ("frame", "memory", "decode")

DYNAMIC = "N"
"""Stands in a shape for the number of masks to decode, from 1 to the number of cells."""


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a graph."""

    name: str
    dtype: str
    """NumPy's name of the type: float32, uint8 or bool."""
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class GraphSpec:
    """One graph's inputs and outputs, in order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def names(self, side: Literal["inputs", "outputs"]) -> list[str]:
        """Names of the inputs or the outputs."""
        return [tensor.name for tensor in getattr(self, side)]


def contract(config: ModelConfig, slots: int, batch: int = 1) -> dict[GraphName, GraphSpec]:
    """The contract of a network.

    Args:
        config: shape of the network.
        slots: stored frames T that the frame graph reads, at least 1.
        batch: streams B that go through the frame and memory graphs together.
    """
    height, width = config.input_size
    rows, columns = config.grid
    depth, key_depth, cells = config.width, config.key_width, config.cells

    def f32(name: str, *shape: int | str) -> TensorSpec:
        return TensorSpec(name, "float32", shape)

    features = f32("features", batch, 2, depth, rows, columns)
    frame = GraphSpec(
        inputs=(
            TensorSpec("image", "uint8", (batch, height, width, 3)),
            f32("memory_key", batch, slots, key_depth, cells),
            f32("memory_value", batch, slots, 2, depth, cells),
            TensorSpec("memory_valid", "bool", (batch, slots + 1)),
        ),
        outputs=(
            f32("mask_features", batch, depth, *config.mask_size),
            f32("kernels", batch, depth, cells),
            f32("scores", batch, config.classes, cells),
            f32("query", batch, key_depth, cells),
            f32("key", batch, key_depth, cells),
            features,
        ),
    )
    memory = GraphSpec(inputs=(features,), outputs=(f32("value", batch, 2, depth, cells),))
    decode = GraphSpec(
        inputs=(
            f32("mask_features", 1, depth, *config.mask_size),
            f32("kernels", DYNAMIC, depth),
        ),
        outputs=(
            TensorSpec("masks", "uint8", (DYNAMIC, height, width)),
            f32("area", DYNAMIC),
            f32("probability_sum", DYNAMIC),
            f32("intersection", DYNAMIC, DYNAMIC),
        ),
    )
    return {"frame": frame, "memory": memory, "decode": decode}
