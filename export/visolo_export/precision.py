"""Converts graphs to fp16 and bf16, within ONNX, so that it holds for every library.

fp16: casts. What adds up many numbers, or grows exponentially, stays float32: norms, the reading of
the memory, sigmoids, and the whole decode graph, whose sums count pixels; also the normalisation of
the image, and any modules that the caller names.

bf16: the same with bfloat16, which has float32's range and 8 bits of precision, three fewer than
float16. It is for networks in which a number exceeds 65,504, the largest of float16.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import ml_dtypes
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT32_OPERATORS = ("InstanceNormalization", "Softmax", "Sigmoid")
"""Operators that stay float32 in fp16 and bf16 graphs."""
_BF16_OPSET = 22


def to_fp16(source: Path, target: Path, float32_modules: Sequence[str] = ()) -> None:
    """Write a graph that computes in float16; its inputs and outputs keep their types.

    Args:
        source: the float32 graph.
        target: where to write.
        float32_modules: modules of the network that stay float32, such as ``backbone.layer1``.
    """
    onnx.save(_with_casts(onnx.load(source), float32_modules), target)
    onnx.checker.check_model(target, full_check=True)


def to_bf16(source: Path, target: Path, float32_modules: Sequence[str] = ()) -> None:
    """Write a graph that computes in bfloat16; its inputs and outputs keep their types.

    Args: see :func:`to_fp16`.
    """
    plain = onnx.load(source)
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in plain.graph.initializer}
    model = _with_casts(plain, float32_modules)
    half, brain = TensorProto.FLOAT16, TensorProto.BFLOAT16
    for tensor in model.graph.initializer:
        if tensor.data_type == half:
            # From the float32 weights: as float16 they have lost range and bits.
            rounded = weights[tensor.name].astype(ml_dtypes.bfloat16)
            tensor.CopyFrom(
                helper.make_tensor(tensor.name, brain, rounded.shape, rounded.tobytes(), raw=True)
            )
    for node in model.graph.node:
        if node.op_type == "Cast" and _cast_to(node) == half:
            node.attribute[0].i = brain
    # Convolutions and pooling know bfloat16 from opset 22 on, which differs from 20 in nothing else
    # that these graphs contain.
    (opset,) = (each for each in model.opset_import if each.domain == "")
    opset.version = _BF16_OPSET
    onnx.save(model, target)
    onnx.checker.check_model(target, full_check=True)


def _with_casts(plain: onnx.ModelProto, float32_modules: Sequence[str]) -> onnx.ModelProto:
    """The graph with casts to float16 wherever it may compute in that."""
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    blocked = [*DEFAULT_OP_BLOCK_LIST, *FLOAT32_OPERATORS]
    float32_nodes = [*_between_modules(plain.graph), *nodes_of(plain.graph, float32_modules)]
    proto = convert_float_to_float16(
        plain, keep_io_types=True, op_block_list=blocked, node_block_list=float32_nodes
    )
    _remove_round_trips(proto.graph)
    # The converter leaves outdated float32 types behind, and puts its casts at the end.
    del proto.graph.value_info[:]
    model = OnnxModel(proto)
    model.topological_sort()
    converted: onnx.ModelProto = model.model
    return converted


def nodes_of(graph: onnx.GraphProto, modules: Sequence[str]) -> list[str]:
    """Names of the nodes that some modules of the network were exported as.

    Args:
        graph: as this package exports it, with each node's scopes in its metadata.
        modules: paths such as ``backbone.layer1``; modules inside them are included.
    """
    # A module called by a method other than ``forward`` leaves no scope of its own, so scopes of
    # the modules inside it count as well.
    within = tuple(f"{root}{module}." for module in modules for root in ("model.", ""))
    return [
        node.name
        for node in graph.node
        if any(f"{scope}.".startswith(within) for scope in _scopes(node)[:-1])
    ]


def _scopes(node: onnx.NodeProto) -> list[str]:
    text = next((p.value for p in node.metadata_props if p.key.endswith("name_scopes")), "")
    return [part.strip(" '") for part in text.strip("[]").split(",")]


def _between_modules(graph: onnx.GraphProto) -> list[str]:
    """Names of the nodes that belong to no module: the normalisation of the image, and the reading
    of the memory, whose products become exponents. They are few and cheap."""
    return [node.name for node in graph.node if len(_scopes(node)) <= 2]


def _remove_round_trips(graph: onnx.GraphProto) -> None:
    """Remove pairs of casts from float32 to float16 and straight back.

    The converter puts casts around every node that stays float32, even between two such nodes.
    """
    casts = {node.output[0]: node for node in graph.node if node.op_type == "Cast"}
    half, single = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    weights = {tensor.name for tensor in graph.initializer if tensor.data_type == single}
    origin = {}
    for name, cast in casts.items():
        before = casts.get(cast.input[0])
        if cast.input[0] in weights and _cast_to(cast) == single:
            origin[name] = cast.input[0]
        elif before and (_cast_to(before), _cast_to(cast)) == (half, single):
            origin[name] = before.input[0]
    outputs = {output.name for output in graph.output}
    for node in graph.node:
        for at, name in enumerate(node.input):
            if name in origin:
                node.input[at] = origin[name]
        if node.op_type == "Cast" and node.output[0] in origin and node.output[0] in outputs:
            node.input[0] = origin[node.output[0]]  # a cast of float32 to float32
    nodes = list(graph.node)
    while True:
        read = {name for node in nodes for name in node.input} | outputs
        needed = [node for node in nodes if node.op_type != "Cast" or node.output[0] in read]
        if len(needed) == len(nodes):
            break
        nodes = needed
    del graph.node[:]
    graph.node.extend(nodes)


def _cast_to(cast: onnx.NodeProto) -> int:
    return next(int(attribute.i) for attribute in cast.attribute if attribute.name == "to")


def convolutions(source: Path) -> list[str]:
    """Names of the convolutions of a graph, in order."""
    return [node.name for node in onnx.load(source).graph.node if node.op_type == "Conv"]
