"""The layers of a built engine, as the builder's log lists them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass


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
    onnx_layers: tuple[str, ...]
    """The nodes of the graph that it computes; several where they were fused."""


def layers_of(lines: Sequence[str]) -> tuple[EngineLayer, ...]:
    """The layers of an engine, as a verbose log with detailed profiling lists them."""
    block = next((text for text in lines if text.lstrip().startswith("Layers:")), "")
    layers = []
    for line in block.splitlines():
        name = re.search(r"Name: (.*?), LayerType: (\w+)", line)
        if not name:
            continue
        precisions = re.findall(r"Datatype: (\w+)", line)
        outputs = re.findall(r"Datatype: (\w+)", line.partition("Outputs: [")[2])
        metadata = re.findall(r"\[ONNX Layer: ([^\]]+)\]", line)
        layers.append(
            EngineLayer(
                name[1],
                name[2],
                tuple(dict.fromkeys(precisions)),
                tuple(dict.fromkeys(outputs)),
                tuple(dict.fromkeys(metadata)),
            )
        )
    return tuple(layers)
