"""Writes int8 and fp8 graphs for TensorRT, on a float16 base.

Each quantised convolution reads its input and its weights through QuantizeLinear and
DequantizeLinear; everything else is what :func:`to_fp16` writes, so a convolution that is not
quantised, and all that lies between two that are, computes in float16, and in float32 only what
does so in fp16 graphs. As NVIDIA recommends, the outputs of convolutions are not quantised, and the
sum that ends a residual block reads the same quantised tensor as the convolution beside it.

Scales are float16 too, since the type of a scale is the type of what DequantizeLinear returns. They
are rounded up before anything is quantised with them, so rounding them adds no error of its own.

int8 has a scale for each output channel of the weights; fp8 (e4m3: 4 bits of exponent, 3 of
mantissa) needs only one for the whole tensor, because the exponent covers small channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from visolo_export.precision import to_fp16
from visolo_export.quantisation import Ranges
from visolo_runtime.engines.buffers import Array

Quantised = Literal["int8", "fp8"]


@dataclass(frozen=True)
class _Kind:
    """A type that convolutions compute in."""

    onnx_type: int
    """ONNX's number for it"""
    dtype: type[np.generic]
    largest: float
    """the largest magnitude that is used; int8 is symmetric, so -128 is not"""
    per_channel: bool


_KINDS: dict[Quantised, _Kind] = {
    "int8": _Kind(TensorProto.INT8, np.int8, 127, True),
    "fp8": _Kind(TensorProto.FLOAT8E4M3FN, ml_dtypes.float8_e4m3fn, 448, False),
}


def quantise(
    source: Path,
    target: Path,
    precision: Quantised,
    ranges: Ranges,
    keep: Sequence[str] = (),
    float32_modules: Sequence[str] = (),
) -> None:
    """Write a graph whose convolutions compute in int8 or fp8, and the rest in float16.

    Args:
        source: the float32 graph.
        target: where to write.
        precision: of the convolutions.
        ranges: of the graph's tensors, see :func:`visolo_export.quantisation.calibrate`.
        keep: names of convolutions that stay float16.
        float32_modules: modules of the network that stay float32, such as ``backbone.layer1``.
    """
    to_fp16(source, target, float32_modules)
    plain, model = onnx.load(source).graph, onnx.load(target)
    writer = _Writer(_KINDS[precision], model.graph)
    inputs = {node.name: node.input[0] for node in plain.node if node.op_type == "Conv"}
    weights = {tensor.name: tensor for tensor in plain.initializer}
    half = {
        tensor.name for tensor in model.graph.initializer if tensor.data_type == TensorProto.FLOAT16
    }
    nodes = list(model.graph.node)
    for node in nodes:
        # Convolutions of float32 modules still have float32 weights.
        if node.op_type == "Conv" and node.name not in keep and node.input[1] in half:
            largest = np.abs(np.ravel(ranges.tensors[inputs[node.name]].range_value)).max()
            weight = numpy_helper.to_array(weights[node.input[1]])
            node.input[0] = writer.activation(node.input[0], float(largest))
            node.input[1] = writer.weight(node.input[1], weight)
    for node in nodes:
        if node.op_type == "Add":
            node.input[:] = [writer.activations.get(name, name) for name in node.input]
    writer.finish(nodes)
    onnx.save(model, target)
    onnx.checker.check_model(target, full_check=True)


class _Writer:
    """Adds pairs of QuantizeLinear and DequantizeLinear to a float16 graph."""

    def __init__(self, kind: _Kind, graph: onnx.GraphProto) -> None:
        self._kind, self._graph = kind, graph
        self._pairs: dict[str, list[onnx.NodeProto]] = {}
        """New nodes by the tensor that they read, an empty name for weights."""
        self.activations: dict[str, str] = {}
        """By tensor: the same tensor, quantised and dequantised."""
        self._weights: dict[str, str] = {}

    def activation(self, name: str, largest: float) -> str:
        """The name of an activation after quantising and dequantising it.

        Args:
            name: of the activation, float16.
            largest: its largest magnitude in calibration.
        """
        if name not in self.activations:
            constants = self._scale(name, np.array(largest))
            self._pairs[name] = [
                helper.make_node(
                    "QuantizeLinear", [name, *constants], [f"{name}_quantised"], f"quantise_{name}"
                ),
                self._dequantise(f"{name}_quantised", constants, f"{name}_dequantised"),
            ]
            self.activations[name] = f"{name}_dequantised"
        return self.activations[name]

    def weight(self, name: str, weight: Array) -> str:
        """The name of quantised weights after dequantising them.

        Args:
            name: of the weights.
            weight: float32 [outputs, inputs, height, width].
        """
        if name not in self._weights:
            kind, magnitude = self._kind, np.abs(weight)
            largest = magnitude.max(axis=(1, 2, 3)) if kind.per_channel else magnitude.max()
            constants = self._scale(name, largest)
            scale = float16_above(largest / kind.largest).astype(np.float32)
            scaled = weight / (scale[:, None, None, None] if kind.per_channel else scale)
            if kind.dtype is np.int8:
                scaled = np.rint(scaled)
            limited = np.clip(scaled, -kind.largest, kind.largest).astype(kind.dtype)
            stored = self._constant(f"{name}_quantised", limited)
            node = self._dequantise(stored, constants, f"{name}_dequantised")
            if kind.per_channel:
                node.attribute.append(helper.make_attribute("axis", 0))
            self._pairs.setdefault("", []).append(node)
            self._weights[name] = node.output[0]
        return self._weights[name]

    def finish(self, nodes: Sequence[onnx.NodeProto]) -> None:
        """Insert the new nodes where what they read is computed, and drop weights that nothing
        reads any more."""
        names = {tensor.name for tensor in (*self._graph.initializer, *self._graph.input)}
        ordered = [*self._pairs.pop("", [])]
        for name in names & self._pairs.keys():
            ordered += self._pairs.pop(name)
        for node in nodes:
            ordered.append(node)
            for name in node.output:
                ordered += self._pairs.pop(name, [])
        read = {name for node in ordered for name in node.input}
        initializers = [tensor for tensor in self._graph.initializer if tensor.name in read]
        del self._graph.node[:], self._graph.initializer[:]
        self._graph.node.extend(ordered)
        self._graph.initializer.extend(initializers)

    def _scale(self, name: str, largest: NDArray[np.floating[Any]]) -> list[str]:
        """Names of a new scale and a new zero point, which is zero."""
        scale = float16_above(largest / self._kind.largest)
        return [
            self._constant(f"{name}_scale", scale),
            self._constant(f"{name}_zero", np.zeros(scale.shape, self._kind.dtype)),
        ]

    def _constant(self, name: str, values: Array) -> str:
        onnx_type = TensorProto.FLOAT16 if values.dtype == np.float16 else self._kind.onnx_type
        tensor = helper.make_tensor(name, onnx_type, values.shape, values.tobytes(), raw=True)
        self._graph.initializer.append(tensor)
        return name

    @staticmethod
    def _dequantise(name: str, constants: Sequence[str], output: str) -> onnx.NodeProto:
        return helper.make_node(
            "DequantizeLinear", [name, *constants], [output], f"dequantise_{output}"
        )


def float16_above(numbers: NDArray[np.floating[Any]]) -> NDArray[np.float16]:
    """The smallest float16 numbers that are not below these; 1 in place of zero.

    >>> float16_above(np.array([1.0, 0.0, 1 + 2**-12])).tolist()
    [1.0, 1.0, 1.0009765625]
    """
    exact = np.asarray(numbers, np.float64)
    rounded = exact.astype(np.float16)
    above = np.where(rounded < exact, np.nextafter(rounded, np.float16(np.inf)), rounded)
    return np.where(exact > 0, above, 1).astype(np.float16)
