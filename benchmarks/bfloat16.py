"""bfloat16 on a CPU: ONNX Runtime has no bfloat16 convolution there, but it can round."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper


def rounded_to_bfloat16(source: Path, target: Path) -> Path:
    """Write a graph that computes in float32 what a bfloat16 graph computes, and rounds the result
    of every node as the bfloat16 graph does: accumulation is float32 on GPUs too.

    Args:
        source: a graph with bfloat16 in it.
        target: where to write.
    """
    model = onnx.load(source)
    graph = model.graph
    values = onnx.shape_inference.infer_shapes(model).graph.value_info
    brain = {
        value.name for value in values if value.type.tensor_type.elem_type == TensorProto.BFLOAT16
    }
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.BFLOAT16:
            single = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(single, tensor.name))
    nodes: list[NodeProto] = []
    for node in graph.node:
        nodes.append(node)
        (name, *others) = node.output
        if name not in brain:
            continue
        assert not others
        node.output[0] = f"{name}_exact"
        if node.op_type == "Cast":
            node.CopyFrom(helper.make_node("Identity", node.input, node.output, node.name))
        exact, low = node.output[0], f"{name}_bfloat16"
        nodes.append(helper.make_node("Cast", [exact], [low], to=TensorProto.BFLOAT16))
        nodes.append(helper.make_node("Cast", [low], [name], to=TensorProto.FLOAT))
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    onnx.save(model, target)
    onnx.checker.check_model(target, full_check=True)
    return target
