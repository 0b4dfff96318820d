"""Finds the first layer at which two ONNX graphs of the same network differ."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from visolo_core.contract import STREAMS
from visolo_core.nn.checkpoint import load_checkpoint
from visolo_export.graph_export import exported_modules
from visolo_export.onnx_export import write_onnx
from visolo_export.verification import BISECT_TOLERANCES
from visolo_runtime.bundle import Bundle, Precision
from visolo_runtime.engines.buffers import STAGE_OUTPUTS, Array

_SCOPES = "pkg.torch.onnx.name_scopes"
_TENSORS_PER_RUN = 24  # so that not all tensors have to be in memory at the same time


@dataclass(frozen=True)
class Divergence:
    """The first node at which two graphs differ."""

    node: str
    operator: str
    module: str
    """name of the network's module that the node belongs to"""
    error: float
    """largest difference divided by the largest value of the reference"""


def divergence_from_weights(
    weights: Path, bundle: Bundle, precision: Precision, image: NDArray[np.uint8]
) -> Divergence | None:
    """Where a bundle's ONNX graphs differ from a new export of weights, with empty memory: the
    frame graph, and the mask graph on what the backbone makes of the image.

    Args:
        weights: weights file of the same network.
        bundle: a bundle with ONNX graphs in that precision.
        precision: of the bundle's graphs; it also selects the tolerance.
        image: uint8 [H, W, 3] RGB, of the network's input size.

    Returns:
        the first divergence, or None if all outputs that both graphs have are within tolerance.

    Raises:
        VisoloError: if the bundle has no such graphs, or the weights cannot be read.
    """
    contract, slots = bundle.manifest.contract, bundle.manifest.slots
    candidates, tolerance = bundle.graph_files("onnx", precision), BISECT_TOLERANCES[precision]
    feed: dict[str, Array] = {
        tensor.name: np.zeros(tensor.sized({STREAMS: 1}), tensor.dtype)
        for tensor in contract["frame"].inputs
    }
    feed["image"][0] = image
    feed["memory_valid"][0, slots] = True
    with tempfile.TemporaryDirectory(prefix="visolo-") as folder:
        modules = exported_modules(load_checkpoint(weights).build())
        frame, mask = Path(folder, "frame.onnx"), Path(folder, "mask.onnx")
        write_onnx(modules["frame"], contract["frame"], frame)
        divergence = first_divergence(frame, candidates["frame"], feed, tolerance)
        if divergence is not None:
            return divergence
        write_onnx(modules["mask"], contract["mask"], mask)
        stages = _tensors(frame, list(STAGE_OUTPUTS), feed)
        return first_divergence(mask, candidates["mask"], stages, tolerance)


def first_divergence(
    reference: Path, candidate: Path, feed: Mapping[str, Array], tolerance: float
) -> Divergence | None:
    """The first node, in the order of computation, whose output differs too much. What depends on
    which cells are the best is left out: two that are alike may change places.

    Args:
        reference: an ONNX graph, usually in float32.
        candidate: a graph of the same network with other weights or in another precision.
        feed: inputs of both graphs, by name.
        tolerance: largest error, relative to the tensor's largest value.

    Returns:
        the first divergence, or None if all outputs that both graphs have are within tolerance.
    """
    nodes = list(onnx.load(reference).graph.node)
    candidate_names = {name for node in onnx.load(candidate).graph.node for name in node.output}
    ordered = _names_after(nodes, "TopK")
    shared = [
        (node, name)
        for node in nodes
        for name in node.output
        if name in candidate_names and name not in ordered
    ]
    for begin in range(0, len(shared), _TENSORS_PER_RUN):
        part = shared[begin : begin + _TENSORS_PER_RUN]
        names = [name for _, name in part]
        expected, actual = (_tensors(file, names, feed) for file in (reference, candidate))
        for node, name in part:
            error = _error(expected[name], actual[name])
            if error > tolerance:
                return Divergence(node.name, node.op_type, _module(node), error)
    return None


def _names_after(nodes: Sequence[onnx.NodeProto], operator: str) -> set[str]:
    """Outputs of an operator's nodes, and of all nodes that depend on them."""
    names: set[str] = set()
    for node in nodes:  # in the order of computation
        if node.op_type == operator or not names.isdisjoint(node.input):
            names.update(node.output)
    return names


def _tensors(file: Path, names: list[str], feed: Mapping[str, Array]) -> dict[str, Array]:
    """Tensors inside a graph. Optimisations are off, since they would merge some of them away."""
    proto = onnx.load(file)
    outputs = {value.name for value in proto.graph.output}
    inner = [name for name in names if name not in outputs]
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inner)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return dict(zip(names, session.run(names, dict(feed)), strict=True))


def _error(reference: Array, candidate: Array) -> float:
    if reference.dtype == bool or not reference.size or reference.shape != candidate.shape:
        return 0.0
    expected, actual = (each.astype(np.float64) for each in (reference, candidate))
    finite = np.isfinite(expected)  # the softmax over the memory reads -inf on purpose
    if (np.isfinite(actual) != finite).any():
        return float("inf")
    if not finite.any():
        return 0.0
    largest = float(np.abs(expected[finite]).max())
    return float(np.abs(expected[finite] - actual[finite]).max()) / (largest or 1.0)


def _module(node: onnx.NodeProto) -> str:
    """The innermost named module that a node belongs to."""
    scopes = next((each.value for each in node.metadata_props if each.key == _SCOPES), "[]")
    words = [word.strip(" '\"") for word in scopes.strip("[]").split(",")]
    modules = [word for word in words if word]  # the last scope is the operator itself
    return modules[-2] if len(modules) > 1 else ""
