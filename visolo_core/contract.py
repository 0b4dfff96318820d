"""The tensor contract: names, types and shapes of what goes in and out of the graphs.

Both the exporter and the runtime take the names from here. In the order of a frame's way:

* ``frame`` computes everything about the cells and chooses those whose masks are worth decoding;
* ``mask`` computes the mask features, which only frames with a chosen cell need;
* ``decode`` computes the masks of chosen cells;
* ``memory`` computes what a memory slot stores of the frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from visolo_core.config import ModelConfig

GraphName = Literal["frame", "mask", "decode", "memory"]
GRAPHS: tuple[GraphName, ...] = ("frame", "mask", "decode", "memory")

CANDIDATES = 64
"""Most cells K that the frame graph chooses. Frames with more are chosen from all its outputs."""
RECENT = 2
"""Earlier frames whose keys the grid weight compares with: the previous one, the newest kept."""

MASKS = "N"
"""In a shape: the number of masks to decode, from 1 to the number of cells."""
STREAMS = "B"
"""In a shape: the number of streams that go through the graph together."""


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a graph."""

    name: str
    dtype: str
    """NumPy's name of the type: float32, int32, uint8 or bool."""
    shape: tuple[int | str, ...]

    def sized(self, lengths: Mapping[str, int] = MappingProxyType({})) -> tuple[int, ...]:
        """The shape in numbers.

        Args:
            lengths: lengths of the dynamic sides, ``MASKS`` or ``STREAMS``.

        >>> TensorSpec("area", "float32", (MASKS,)).sized({MASKS: 3})
        (3,)
        """
        return tuple(lengths[side] if isinstance(side, str) else side for side in self.shape)


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
        batch: most streams that go through the frame, mask and memory graphs together. With 1,
            the shapes are fixed; otherwise graphs take any number of streams up to this.
    """
    streams = STREAMS if batch > 1 else 1
    height, width = config.input_size
    rows, columns = config.grid
    depth, key_depth, cells = config.width, config.key_width, config.cells
    classes, places = config.classes, min(CANDIDATES, config.cells)

    def f32(name: str, *shape: int | str) -> TensorSpec:
        return TensorSpec(name, "float32", shape)

    stages = tuple(
        f32(f"res{stage}", streams, channels, height // 2**stage, width // 2**stage)
        for stage, channels in enumerate(config.backbone_channels, start=2)
    )

    features = f32("features", streams, 2, depth, rows, columns)
    frame = GraphSpec(
        inputs=(
            TensorSpec("image", "uint8", (streams, height, width, 3)),
            f32("memory_key", streams, slots, key_depth, cells),
            f32("memory_value", streams, slots, 2, depth, cells),
            TensorSpec("memory_valid", "bool", (streams, slots + 1)),
            f32("recent_key", streams, RECENT, key_depth, cells),
            TensorSpec("recent_valid", "bool", (streams, RECENT)),
            f32("score_threshold", streams),
        ),
        outputs=(
            TensorSpec("count", "int32", (streams,)),
            TensorSpec("cell", "int32", (streams, places)),
            f32("cell_score", streams, places),
            f32("cell_classes", streams, places, classes),
            f32("cell_query", streams, places, key_depth),
            f32("cell_key", streams, places, key_depth),
            f32("cell_kernel", streams, places, depth),
            f32("kernels", streams, depth, cells),
            f32("scores", streams, classes, cells),
            f32("query", streams, key_depth, cells),
            f32("key", streams, key_depth, cells),
            features,
            *stages,
        ),
    )
    mask = GraphSpec(
        inputs=stages, outputs=(f32("mask_features", streams, depth, *config.mask_size),)
    )
    memory = GraphSpec(inputs=(features,), outputs=(f32("value", streams, 2, depth, cells),))
    decode = GraphSpec(
        inputs=(
            f32("mask_features", 1, depth, *config.mask_size),
            f32("kernels", MASKS, depth),
        ),
        outputs=(
            TensorSpec("masks", "uint8", (MASKS, height, width)),
            f32("area", MASKS),
            f32("probability_sum", MASKS),
            f32("intersection", MASKS, MASKS),
        ),
    )
    return {"frame": frame, "mask": mask, "decode": decode, "memory": memory}
