"""Multiply-adds and numbers moved, layer by layer, of an ONNX graph.

A layer is an operator that a library runs on its own: convolutions and matrix products, which do
the arithmetic, and norms, softmax, resizing and pooling, which need a whole tensor before they can
begin or change its shape. Everything else (activations, sums, scaling, casts, reshapes, copies) is
taken to be done on the way by the layer before it, and counts nothing.

Multiply-adds are counted in two ways: as is usual, and those that cannot be left out. A library
need not multiply the zeros that pad a convolution's input. Of a convolution that it computes by
Winograd's way, the products of the tiles' elements count, and what brings tiles into the other
basis and back counts nothing, so that no graph is held against too little.
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
"""What layers are called that no module owns: in the frame graph, the matching with the memory."""

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """What a layer takes at least."""

    graph: GraphName
    name: str
    operator: str
    module: str
    """of the network: a stage of the backbone, a branch, the memory"""
    macs: int
    """multiply-adds, as is usual; 0 of what is no convolution or product"""
    macs_direct: int
    """without those on a convolution's padding"""
    macs_inside: int
    """without any that can be left out"""
    weights: int
    """numbers read that the graph holds"""
    inputs: int
    """numbers read that were computed or given; what is read twice counts once"""
    outputs: int
    """numbers written"""
    int8: bool = False
    """computes in integers of 8 bits, else in float32"""

    @property
    def read_bytes(self) -> int:
        """Bytes of weights and inputs."""
        return (self.weights + self.inputs) * (1 if self.int8 else 4)

    @property
    def written_bytes(self) -> int:
        """Bytes of outputs."""
        return self.outputs * (1 if self.int8 else 4)

    def compulsory_bytes(self, cache_bytes: float) -> float:
        """Bytes that must pass between memory and a cache of this size, at least.

        When the layer begins, the cache may hold as much as fits of what it reads; when it ends, as
        much as fits of what it wrote has not left yet.
        """
        return max(0.0, self.read_bytes - cache_bytes) + max(0.0, self.written_bytes - cache_bytes)


def count_bundle(
    bundle: Bundle, masks: int, precision: str = "fp32", winograd: Collection[str] = ()
) -> list[Layer]:
    """The layers of a bundle's three graphs, from its ONNX files.

    Args:
        bundle: with ONNX graphs.
        masks: number of masks that the decode graph makes.
        precision: of the graphs, ``fp32`` or ``int8``.
        winograd: names of the convolutions that are computed that way.

    Raises:
        VisoloError: if it has no such graphs.
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
    """The layers of a graph, in its order.

    Args:
        proto: the graph; it is changed.
        graph: what it is.
        lengths: of the axes whose length is not fixed.
        winograd: names of the convolutions that are computed that way.

    Raises:
        VisoloError: if a shape does not follow from these, or a layer is of an unknown kind.
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
        self._maker = {name: node for node in proto.graph.node for name in node.output}

    def layer(self, node: onnx.NodeProto, graph: GraphName) -> Layer:
        """What a node takes."""
        read = {self._origin(name) for name in node.input if name}
        macs, direct, inside = self._macs(node) if node.op_type in PRODUCT_OPERATORS else (0, 0, 0)
        maker = self._maker.get(node.input[0])
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
            int8=maker is not None and maker.op_type == "DequantizeLinear",
        )

    def shape(self, name: str) -> Shape:
        """Of a tensor."""
        if name not in self._shapes:
            raise VisoloError(f"the shape of '{name}' does not follow from the graph's inputs")
        return self._shapes[name]

    def _origin(self, name: str) -> str:
        """The tensor that holds the same numbers and was there first."""
        while name in self._maker and self._maker[name].op_type in _SAME_NUMBERS:
            name = self._maker[name].input[0]
        return name

    def _macs(self, node: onnx.NodeProto) -> tuple[int, int, int]:
        first, second = (self.shape(name) for name in node.input[:2])
        made = self.shape(node.output[0])
        if node.op_type == "Conv":
            everywhere, direct = _convolution_macs(node, first, second, made)
            if node.name not in self._winograd:
                return everywhere, direct, direct
            tiles = made[0] * prod(-(-side // TILE) for side in made[2:])
            return everywhere, direct, tiles * SPAN * SPAN * prod(second[:2])
        transposed = node.op_type == "Gemm" and _attributes(node).get("transA", 0)
        macs = prod(made) * first[0 if transposed else -1]
        return macs, macs, macs


def _convolution_macs(
    node: onnx.NodeProto, image: Shape, weight: Shape, made: Shape
) -> tuple[int, int]:
    """All multiply-adds, and those within the image.

    Args:
        node: the convolution.
        image: (batch, channels, size along each axis)
        weight: (channels out, channels in a group, kernel along each axis)
        made: (batch, channels out, size along each axis)
    """
    attributes = _attributes(node)
    if attributes.get("auto_pad", b"NOTSET") != b"NOTSET":
        raise VisoloError(f"convolution '{node.name}' pads by itself, which is not counted")
    axes = len(weight) - 2
    strides = attributes.get("strides", [1] * axes)
    dilations = attributes.get("dilations", [1] * axes)
    before = attributes.get("pads", [0] * 2 * axes)[:axes]
    each = made[0] * made[1] * weight[1]  # of one pair of places along the axes
    everywhere = each * prod(made[2:]) * prod(weight[2:])
    inside = each * prod(
        sum(
            0 <= place * stride - pad + tap * dilation < size
            for place in range(places)
            for tap in range(taps)
        )
        for size, taps, places, stride, dilation, pad in zip(
            image[2:], weight[2:], made[2:], strides, dilations, before, strict=True
        )
    )
    return everywhere, inside


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}


def _shapes(proto: onnx.ModelProto, lengths: Mapping[str, int]) -> dict[str, Shape]:
    """Every shape that is known once the free axes have lengths."""
    for value in proto.graph.input:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in lengths:
                dim.dim_value = lengths[dim.dim_param]
    # What was inferred for axes without a length would be kept, and contradict them.
    del proto.graph.value_info[:]
    for value in proto.graph.output:
        value.type.tensor_type.ClearField("shape")
    known = shape_inference.infer_shapes(proto, data_prop=True).graph
    found = {tensor.name: tuple(tensor.dims) for tensor in known.initializer}
    for value in (*known.input, *known.output, *known.value_info):
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(d.HasField("dim_value") for d in dims):
            found[value.name] = tuple(dim.dim_value for dim in dims)
    return found


def _module(node: onnx.NodeProto, graph: GraphName) -> str:
    """The stage or branch that a node belongs to, by the scopes that the exporter notes."""
    text = next((each.value for each in node.metadata_props if each.key == _SCOPES), "[]")
    scopes = [word.strip(" '\"") for word in text.strip("[]").split(",")]
    modules = [word.removeprefix("model.") for word in scopes[:-1] if word]  # the last: the node
    if not modules:
        return _BETWEEN_MODULES[graph]
    parts = modules[-1].split(".")
    return ".".join(parts[:2] if parts[0] in ("backbone", "memory") else parts[:1])


def total(layers: Iterable[Layer], field: str) -> int:
    """Sum of a field over layers."""
    return sum(int(getattr(layer, field)) for layer in layers)
