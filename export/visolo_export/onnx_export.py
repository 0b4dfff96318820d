"""Exports the graphs as ONNX files.

ONNX Runtime, OpenVINO and TensorRT 10 all read opset 20.
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
        VisoloError: if PyTorch exports nothing, or inputs or outputs differ from the contract.
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
    """Remove the paths of the exporting machine; the names of the modules stay."""
    for node in proto.graph.node:
        entries = [entry for entry in node.metadata_props if not entry.key.endswith("stack_trace")]
        del node.metadata_props[:]
        node.metadata_props.extend(entries)


def _check_shapes(proto: onnx.ModelProto, spec: GraphSpec, file: Path) -> None:
    """Check the shapes that the exporter inferred against the contract."""
    for values, tensors in ((proto.graph.input, spec.inputs), (proto.graph.output, spec.outputs)):
        for value, tensor in zip(values, tensors, strict=True):
            dims = [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
            if value.name != tensor.name or dims != list(tensor.shape):
                raise VisoloError(
                    f"'{file.name}' was exported with {value.name} {dims}, "
                    f"but the contract requires {tensor.name} {list(tensor.shape)}"
                )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's messages on stderr, which are for its developers."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
