"""The graphs as ONNX files.

Opset 20 is read by ONNX Runtime, OpenVINO and TensorRT 10 alike.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
import torch
from torch import nn

from visolo_core.contract import GraphSpec
from visolo_core.errors import VisoloError
from visolo_export.graph_export import dynamic_shapes, example_inputs

OPSET = 20


def write_onnx(module: nn.Module, spec: GraphSpec, file: Path) -> None:
    """Write a graph as ONNX.

    Raises:
        VisoloError: if it does not come out as the contract has it.
    """
    with _quiet():
        program = torch.onnx.export(
            module,
            example_inputs(spec),
            input_names=spec.names("inputs"),
            output_names=spec.names("outputs"),
            opset_version=OPSET,
            dynamo=True,
            dynamic_shapes=dynamic_shapes(spec),
            verbose=False,
        )
    if program is None:
        raise VisoloError(f"PyTorch exported nothing for '{file.name}'")
    proto = program.model_proto
    _strip_stack_traces(proto)
    onnx.save(proto, file)
    onnx.checker.check_model(file, full_check=True)
    _check_shapes(proto, spec, file)


def _strip_stack_traces(proto: onnx.ModelProto) -> None:
    """Forget the paths of the exporting machine; the names of the modules stay."""
    for node in proto.graph.node:
        kept = [entry for entry in node.metadata_props if not entry.key.endswith("stack_trace")]
        del node.metadata_props[:]
        node.metadata_props.extend(kept)


def _check_shapes(proto: onnx.ModelProto, spec: GraphSpec, file: Path) -> None:
    """The exporter infers shapes; they must come out as the contract has them."""
    for values, tensors in ((proto.graph.input, spec.inputs), (proto.graph.output, spec.outputs)):
        for value, tensor in zip(values, tensors, strict=True):
            dims = [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
            if value.name != tensor.name or dims != list(tensor.shape):
                raise VisoloError(
                    f"'{file.name}' came out with {value.name} {dims}, "
                    f"the contract says {tensor.name} {list(tensor.shape)}"
                )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's chatter on stderr, which is for its developers."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
