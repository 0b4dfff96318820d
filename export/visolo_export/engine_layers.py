"""The layers of a built engine, as the builder's log lists them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

_SIZES = {"Float": 4, "Int32": 4, "Int64": 8, "Half": 2, "BFloat16": 2}
"""Bytes of a number; types that are not listed have one."""


@dataclass(frozen=True)
class EngineLayer:
    """One step of a built engine."""

    name: str
    kind: str
    """TensorRT's word: correlation for a convolution, gemm, kgen for generated code, ..."""
    precisions: tuple[str, ...]
    """Types of its inputs, constants and outputs, without repetition: Float, Half, BFloat16, Int8,
    FP8."""
    writes: tuple[str, ...]
    """Types of its outputs, without repetition."""
    moved_bytes: int
    """Bytes of its inputs, constants and outputs, with one for the length of what is not fixed."""
    onnx_layers: tuple[str, ...]
    """The nodes of the graph that it computes; several where they were fused."""


def layers_of(lines: Sequence[str]) -> tuple[EngineLayer, ...]:
    """The layers of an engine, as a verbose log with detailed profiling lists them."""
    block = next((text for text in lines if text.lstrip().startswith("Layers:")), "")
    return tuple(layer for layer in map(_layer, block.splitlines()) if layer)


def _layer(line: str) -> EngineLayer | None:
    name = re.search(r"Name: (.*?), LayerType: (\w+)", line)
    if not name:
        return None
    tensors = [
        (type, [int(side) for side in sides.split(",") if side.strip()])
        for sides, type in re.findall(r"Dimensions: \[([^\]]*)\].*?Datatype: (\w+)", line)
    ]
    outputs = re.findall(r"Datatype: (\w+)", line.partition("Outputs: [")[2])
    return EngineLayer(
        name[1],
        name[2],
        tuple(dict.fromkeys(type for type, _ in tensors)),
        tuple(dict.fromkeys(outputs)),
        sum(_SIZES.get(type, 1) * prod(max(side, 1) for side in sides) for type, sides in tensors),
        tuple(dict.fromkeys(re.findall(r"\[ONNX Layer: ([^\]]+)\]", line))),
    )
