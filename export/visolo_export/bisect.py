"""The first layer at which two ONNX graphs of one network part."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from visolo_core.contract import STREAMS
from visolo_core.nn.checkpoint import load_checkpoint
from visolo_export.graph_export import export_graphs
from visolo_export.onnx_export import write_onnx
from visolo_export.verification import BISECT_TOLERANCES
from visolo_runtime.bundle import Bundle, Precision
from visolo_runtime.engines.buffers import Array

_SCOPES = "pkg.torch.onnx.name_scopes"
_AT_ONCE = 24  # tensors that are looked at in one run, so that they need not all be in memory


@dataclass(frozen=True)
class Divergence:
    """Where two graphs part."""

    node: str
    operator: str
    module: str
    """of the network, as it is called there"""
    error: float
    """largest difference over the largest value"""


def divergence_from_weights(
    weights: Path, bundle: Bundle, precision: Precision, image: NDArray[np.uint8]
) -> Divergence | None:
    """Where a bundle's ONNX frame graph differs from a new export of weights, with empty memory.

    Args:
        weights: of the same network.
        bundle: it has ONNX graphs of that precision.
        precision: of the frame graph; it also says what counts as parting.
        image: [H, W, 3] RGB, of the network's input size.

    Returns:
        None if no output that both graphs have differs so much.

    Raises:
        VisoloError: if the bundle has no such graph, or the weights cannot be read.
    """
    contract, slots = bundle.manifest.contract, bundle.manifest.slots
    candidate = bundle.graph_files("onnx", precision)["frame"]
    feed: dict[str, Array] = {
        tensor.name: np.zeros(tensor.sized({STREAMS: 1}), tensor.dtype)
        for tensor in contract["frame"].inputs
    }
    feed["image"][0] = image
    feed["memory_valid"][0, slots] = True
    with tempfile.TemporaryDirectory(prefix="visolo-") as folder:
        network = load_checkpoint(weights).build()
        names = export_graphs(write_onnx, ".onnx", network, contract, Path(folder), lambda _: None)
        return first_divergence(
            Path(folder) / names["frame"], candidate, feed, BISECT_TOLERANCES[precision]
        )


def first_divergence(
    reference: Path, candidate: Path, feed: Mapping[str, Array], tolerance: float
) -> Divergence | None:
    """The first node, in the order of computation, whose output differs too much.

    Args:
        reference: an ONNX graph, usually in float32.
        candidate: another of the same network: of other weights, or in another precision.
        feed: inputs of both.
        tolerance: largest error, relative to the tensor's largest value.

    Returns:
        None if no output that both graphs have differs so much.
    """
    nodes = list(onnx.load(reference).graph.node)
    theirs = {name for node in onnx.load(candidate).graph.node for name in node.output}
    shared = [(node, name) for node in nodes for name in node.output if name in theirs]
    for begin in range(0, len(shared), _AT_ONCE):
        part = shared[begin : begin + _AT_ONCE]
        names = [name for _, name in part]
        mine, its = (_tensors(file, names, feed) for file in (reference, candidate))
        for node, name in part:
            error = _error(mine[name], its[name])
            if error > tolerance:
                return Divergence(node.name, node.op_type, _module(node), error)
    return None


def _tensors(file: Path, names: list[str], feed: Mapping[str, Array]) -> dict[str, Array]:
    """Tensors inside of a graph. Optimisations are off, or they would be merged away."""
    proto = onnx.load(file)
    had = {value.name for value in proto.graph.output}
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in had)
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
    wide, other = (each.astype(np.float64) for each in (reference, candidate))
    finite = np.isfinite(wide)  # the softmax of the memory is given -inf on purpose
    if (np.isfinite(other) != finite).any():
        return float("inf")
    if not finite.any():
        return 0.0
    largest = float(np.abs(wide[finite]).max())
    return float(np.abs(wide[finite] - other[finite]).max()) / (largest or 1.0)


def _module(node: onnx.NodeProto) -> str:
    """The innermost named module that a node belongs to."""
    scopes = next((each.value for each in node.metadata_props if each.key == _SCOPES), "[]")
    words = [word.strip(" '\"") for word in scopes.strip("[]").split(",")]
    modules = [word for word in words if word]  # the last is the operator's own
    return modules[-2] if len(modules) > 1 else ""
