"""Rewrites ONNX graphs into the forms that TensorRT-RTX builds well, or builds at all.

TensorRT takes the graphs as they are. What TensorRT-RTX does with them is seen in the layers that
its builder lists:

- A convolution whose quantised weights have a scale for each channel writes float32, twice the
  bytes of a float16 convolution. With one scale for all it writes float16. The channels' shares of
  that scale are then a multiplication, which joins the activation and the next quantisation in one
  layer that exists anyway.
- Turing (sm75) has no float32 matrix product. A product of elements and the sum over it is one
  layer, and as exact.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from visolo_runtime.engines.buffers import Array

TURING = "sm75"


def suit_rtx(model: onnx.ModelProto, targets: Sequence[str]) -> None:
    """Rewrite a graph for TensorRT-RTX, in place.

    Args:
        model: the graph.
        targets: GPUs that it is built for, such as ``sm86``.
    """
    _scale_channels_after_convolutions(model.graph)
    if TURING in targets:
        _sum_products(model)


class _Constants:
    """The constants of a graph, to read and to add to."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._tensors = {tensor.name: tensor for tensor in graph.initializer}

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def __getitem__(self, name: str) -> Array:
        values: Array = numpy_helper.to_array(self._tensors[name])
        return values

    def add(self, name: str, values: Array) -> str:
        """Add a constant, unless it is there already, and return its name."""
        if name not in self._tensors:
            self._tensors[name] = numpy_helper.from_array(values, name)
            self._graph.initializer.append(self._tensors[name])
        return name


def _scale_channels_after_convolutions(graph: onnx.GraphProto) -> None:
    """``conv(x, w * scale[channel]) + bias[channel]`` becomes
    ``conv(x, w * s) * (scale[channel] / s) + bias[channel]``, where s is the largest scale."""
    constants = _Constants(graph)
    per_channel = {
        node.output[0]: node
        for node in graph.node
        if node.op_type == "DequantizeLinear"
        and node.input[0] in constants
        and constants[node.input[1]].ndim == 1
    }
    nodes = []
    for node in graph.node:
        nodes.append(node)
        if node.op_type == "Conv" and node.input[1] in per_channel:
            scale_name = per_channel[node.input[1]].input[1]
            nodes += _after_convolution(node, scale_name, constants)
    for node in per_channel.values():
        _dequantise_by_largest(node, constants)
    del graph.node[:]
    graph.node.extend(nodes)


def _after_convolution(node: NodeProto, scale_name: str, constants: _Constants) -> list[NodeProto]:
    """The nodes that finish a convolution, which loses its bias to them."""
    scale = constants[scale_name]
    share = (scale / scale.max()).astype(scale.dtype).reshape(1, -1, 1, 1)
    output, name = node.output[0], node.name
    node.output[0] = f"{output}_unscaled"
    factors = [node.output[0], constants.add(f"{scale_name}_share", share)]
    if len(node.input) == 2:
        return [helper.make_node("Mul", factors, [output], f"{name}_scale")]
    bias = node.input.pop()
    terms = constants.add(f"{bias}_terms", constants[bias].reshape(1, -1, 1, 1))
    return [
        helper.make_node("Mul", factors, [f"{output}_scaled"], f"{name}_scale"),
        helper.make_node("Add", [f"{output}_scaled", terms], [output], f"{name}_bias"),
    ]


def _dequantise_by_largest(node: NodeProto, constants: _Constants) -> None:
    scale, zero = node.input[1], node.input[2]
    node.input[1] = constants.add(f"{scale}_largest", constants[scale].max())
    node.input[2] = constants.add(f"{zero}_one", constants[zero][0])
    del node.attribute[:]  # the axis


def _sum_products(model: onnx.ModelProto) -> None:
    """``a @ b`` in float32 becomes ``sum(a[..., None] * b[..., None, :, :])``."""
    graph = model.graph
    typed = onnx.shape_inference.infer_shapes(model).graph
    float32 = {
        value.name
        for value in (*typed.value_info, *typed.input, *typed.output)
        if value.type.tensor_type.elem_type == TensorProto.FLOAT
    }
    constants, nodes = _Constants(graph), []
    for node in graph.node:
        if node.op_type != "MatMul" or node.output[0] not in float32:
            nodes.append(node)
            continue
        name, (left, right) = node.name, node.input
        last, third = (constants.add(f"axis {axis}", np.array([axis])) for axis in (-1, -3))
        summed = constants.add("axis -2", np.array([-2]))
        factors = [f"{name}_left", f"{name}_right"]
        nodes += [
            helper.make_node("Unsqueeze", [left, last], factors[:1], f"{name}_unsqueeze_left"),
            helper.make_node("Unsqueeze", [right, third], factors[1:], f"{name}_unsqueeze_right"),
            helper.make_node("Mul", factors, [f"{name}_products"], f"{name}_products"),
            helper.make_node(
                "ReduceSum", [f"{name}_products", summed], node.output, name, keepdims=0
            ),
        ]
    del graph.node[:]
    graph.node.extend(nodes)
