"""Counts the multiply-adds and the numbers moved by each layer of an ONNX graph.

A layer is an operator that a library runs on its own: convolutions and matrix products, which do
the arithmetic, and norms, softmax, resizing and pooling, which need a whole tensor before they can
begin or change its shape. Everything else (activations, sums, scaling, casts, reshapes, copies) is
assumed to be fused into the layer before it, and counts nothing.

Multiply-adds are counted in two ways: as is usual, and only those that cannot be avoided. A library
need not multiply the zeros that pad a convolution's input. In a convolution that it computes by
Winograd's algorithm, the products of the tiles' elements count, and the transforms of the tiles
count nothing, so that the floor of a graph is never too high.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import onnx
from onnx import shape_inference

from visolo_core.contract import MASKS, STREAMS, GraphName
from visolo_core.errors import VisoloError
from visolo_runtime.bundle import Bundle
from visolo_runtime.engines.openvino.winograd import SPAN, TILE

PRODUCT_OPERATORS = frozenset({"Conv", "MatMul", "Gemm"})
WHOLE_TENSOR = frozenset(
    {"InstanceNormalization", "GroupNormalization", "LayerNormalization", "Softmax", "Resize"}
    | {"MaxPool", "AveragePool", "GlobalAveragePool"}
)
_SAME_NUMBERS = frozenset(
    {"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Cast"}
    | {"QuantizeLinear", "DequantizeLinear"}
)
_SCOPES = "pkg.torch.onnx.name_scopes"
_BETWEEN_MODULES: dict[GraphName, str] = {
    "frame": "memory read",
    "memory": "memory",
    "decode": "masks",
}
"""Names for layers outside any module; in the frame graph they are the reading of the memory."""

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """The least work that a layer does."""

    graph: GraphName
    name: str
    operator: str
    module: str
    """of the network: a stage of the backbone, a branch, the memory"""
    macs: int
    """multiply-adds, as usually counted; 0 for layers that are not a convolution or product"""
    macs_direct: int
    """without those on a convolution's padding"""
    macs_inside: int
    """without any that can be avoided"""
    weights: int
    """numbers read that the graph stores"""
    inputs: int
    """numbers read that were computed or are the graph's inputs; each tensor counts once"""
    outputs: int
    """numbers written"""
    int8: bool = False
    """whether it computes in 8-bit integers rather than float32"""

    @property
    def read_bytes(self) -> int:
        """Bytes of weights and inputs."""
        return (self.weights + self.inputs) * (1 if self.int8 else 4)

    @property
    def written_bytes(self) -> int:
        """Bytes of outputs."""
        return self.outputs * (1 if self.int8 else 4)

    def compulsory_bytes(self, cache_bytes: float) -> float:
        """Fewest bytes that must pass between memory and a cache of this size.

        When the layer begins, the cache may already hold as much of its inputs and weights as fits;
        when it ends, as much of its outputs as fits may still be in the cache.
        """
        return max(0.0, self.read_bytes - cache_bytes) + max(0.0, self.written_bytes - cache_bytes)


def count_bundle(
    bundle: Bundle, masks: int, precision: str = "fp32", winograd: Collection[str] = ()
) -> list[Layer]:
    """Count the layers of a bundle's three graphs, from its ONNX files.

    Args:
        bundle: a bundle with ONNX graphs.
        masks: number of masks that the decode graph decodes.
        precision: of the graphs, ``fp32`` or ``int8``.
        winograd: names of the convolutions that are computed by Winograd's algorithm.

    Raises:
        VisoloError: if the bundle has no such graphs.
    """
    return [
        layer
        for graph, file in bundle.graph_files("onnx", precision).items()
        for layer in count_graph(onnx.load(file), graph, {MASKS: masks, STREAMS: 1}, winograd)
    ]


def count_graph(
    proto: onnx.ModelProto,
    graph: GraphName,
    lengths: Mapping[str, int],
    winograd: Collection[str] = (),
) -> list[Layer]:
    """Count the layers of a graph, in its order.

    Args:
        proto: the graph; it is modified.
        graph: its name.
        lengths: of the axes whose length is not fixed, by name.
        winograd: names of the convolutions that are computed by Winograd's algorithm.

    Raises:
        VisoloError: if a shape cannot be inferred, or a convolution pads automatically.
    """
    table = _Tensors(proto, lengths, winograd)
    return [
        table.layer(node, graph)
        for node in proto.graph.node
        if node.op_type in PRODUCT_OPERATORS | WHOLE_TENSOR
    ]


class _Tensors:
    """Shapes and origins of a graph's tensors."""

    def __init__(
        self, proto: onnx.ModelProto, lengths: Mapping[str, int], winograd: Collection[str]
    ) -> None:
        self._shapes, self._winograd = _shapes(proto, lengths), winograd
        self._weights = {tensor.name for tensor in proto.graph.initializer}
        self._producer = {name: node for node in proto.graph.node for name in node.output}

    def layer(self, node: onnx.NodeProto, graph: GraphName) -> Layer:
        """Count a node."""
        read = {self._origin(name) for name in node.input if name}
        macs, direct, inside = self._macs(node) if node.op_type in PRODUCT_OPERATORS else (0, 0, 0)
        producer = self._producer.get(node.input[0])
        return Layer(
            graph=graph,
            name=node.name,
            operator=node.op_type,
            module=_module(node, graph),
            macs=macs,
            macs_direct=direct,
            macs_inside=inside,
            weights=sum(prod(self.shape(name)) for name in read & self._weights),
            inputs=sum(prod(self.shape(name)) for name in read - self._weights),
            outputs=prod(self.shape(node.output[0])),
            int8=producer is not None and producer.op_type == "DequantizeLinear",
        )

    def shape(self, name: str) -> Shape:
        """Shape of a tensor."""
        if name not in self._shapes:
            raise VisoloError(
                f"the shape of '{name}' cannot be inferred from the graph's inputs: give a length "
                "for every free axis"
            )
        return self._shapes[name]

    def _origin(self, name: str) -> str:
        """The first tensor that holds the same numbers."""
        while name in self._producer and self._producer[name].op_type in _SAME_NUMBERS:
            name = self._producer[name].input[0]
        return name

    def _macs(self, node: onnx.NodeProto) -> tuple[int, int, int]:
        first, second = (self.shape(name) for name in node.input[:2])
        output = self.shape(node.output[0])
        if node.op_type == "Conv":
            everywhere, direct = _convolution_macs(node, first, second, output)
            if node.name not in self._winograd:
                return everywhere, direct, direct
            tiles = output[0] * prod(-(-side // TILE) for side in output[2:])
            return everywhere, direct, tiles * SPAN * SPAN * prod(second[:2])
        transposed = node.op_type == "Gemm" and _attributes(node).get("transA", 0)
        macs = prod(output) * first[0 if transposed else -1]
        return macs, macs, macs


def _convolution_macs(
    node: onnx.NodeProto, image: Shape, weight: Shape, output: Shape
) -> tuple[int, int]:
    """All multiply-adds, and those within the image.

    Args:
        node: the convolution.
        image: (batch, channels, size along each axis)
        weight: (channels out, channels in a group, kernel along each axis)
        output: (batch, channels out, size along each axis)
    """
    attributes = _attributes(node)
    if attributes.get("auto_pad", b"NOTSET") != b"NOTSET":
        raise VisoloError(
            f"convolution '{node.name}' pads automatically, which cannot be counted: export it "
            "with explicit pads"
        )
    axes = len(weight) - 2
    strides = attributes.get("strides", [1] * axes)
    dilations = attributes.get("dilations", [1] * axes)
    before = attributes.get("pads", [0] * 2 * axes)[:axes]
    pair = output[0] * output[1] * weight[1]  # multiply-adds of one tap at one output place
    everywhere = pair * prod(output[2:]) * prod(weight[2:])
    inside = pair * prod(
        sum(
            0 <= place * stride - pad + tap * dilation < size
            for place in range(places)
            for tap in range(taps)
        )
        for size, taps, places, stride, dilation, pad in zip(
            image[2:], weight[2:], output[2:], strides, dilations, before, strict=True
        )
    )
    return everywhere, inside


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}


def _shapes(proto: onnx.ModelProto, lengths: Mapping[str, int]) -> dict[str, Shape]:
    """Infer every shape, given lengths for the free axes."""
    for value in proto.graph.input:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in lengths:
                dim.dim_value = lengths[dim.dim_param]
    # Shapes inferred at export, without these lengths, would be kept and contradict them.
    del proto.graph.value_info[:]
    for value in proto.graph.output:
        value.type.tensor_type.ClearField("shape")
    known = shape_inference.infer_shapes(proto, data_prop=True).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in known.initializer}
    for value in (*known.input, *known.output, *known.value_info):
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(d.HasField("dim_value") for d in dims):
            shapes[value.name] = tuple(dim.dim_value for dim in dims)
    return shapes


def _module(node: onnx.NodeProto, graph: GraphName) -> str:
    """The stage or branch that a node belongs to, from the scopes that the exporter records."""
    text = next((each.value for each in node.metadata_props if each.key == _SCOPES), "[]")
    scopes = [word.strip(" '\"") for word in text.strip("[]").split(",")]
    modules = [
        word.removeprefix("model.") for word in scopes[:-1] if word
    ]  # the last scope is the node itself
    if not modules:
        return _BETWEEN_MODULES[graph]
    parts = modules[-1].split(".")
    return ".".join(parts[:2] if parts[0] in ("backbone", "memory") else parts[:1])


def total(layers: Iterable[Layer], field: str) -> int:
    """Sum of a field over layers."""
    return sum(int(getattr(layer, field)) for layer in layers)
