"""Converts graphs to fp16, bf16 and int8, within ONNX, so that it holds for every library.

fp16: casts. What adds up many numbers, or grows exponentially, stays float32: norms, the reading of
the memory, sigmoids, and the whole decode graph, whose sums count pixels; also the normalisation of
the image, and any modules that the caller names.

bf16: the same with bfloat16, which has float32's range and 8 bits of precision, three fewer than
float16. It is for networks in which a number exceeds 65,504, the largest of float16.

int8, for CPUs: each quantised convolution reads its input and its weights through a pair of
QuantizeLinear and DequantizeLinear, and libraries compute it in integers. Ranges come from
calibration. Inputs are unsigned and shifted, which is faster than symmetric ones. ONNX Runtime's
quantiser does the work. ``tensorrt_quantisation`` writes int8 graphs for TensorRT.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from visolo_core.errors import VisoloError
from visolo_runtime.engines.buffers import CELL_OUTPUTS, Array

Feeds = Iterable[Mapping[str, Array]]
"""Inputs of a graph by name, one mapping per run; can be iterated over again."""

LayerKey = TypeVar("LayerKey", bound=Hashable)

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


@dataclass(frozen=True)
class Ranges:
    """What calibration measured: the smallest and largest value of each tensor."""

    tensors: Any
    """ONNX Runtime's own record"""


def calibrate(source: Path, feeds: Feeds) -> Ranges:
    """Measure the range of every tensor that a convolution reads or writes.

    Args:
        source: the float32 graph.
        feeds: typical inputs.

    Raises:
        VisoloError: if ``feeds`` is empty.
    """
    from onnxruntime.quantization import CalibrationMethod
    from onnxruntime.quantization.calibrate import CalibrationDataReader, create_calibrator

    if next(iter(feeds), None) is None:
        raise VisoloError("calibration needs at least one frame")

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._feeds = iter(feeds)

        def get_next(self) -> Mapping[str, Array] | None:
            return next(self._feeds, None)

    with _quiet(), tempfile.TemporaryDirectory(prefix="visolo-") as scratch:
        calibrator = create_calibrator(
            source,
            ["Conv"],
            augmented_model_path=str(Path(scratch) / "augmented.onnx"),
            calibrate_method=CalibrationMethod.MinMax,
        )
        calibrator.collect_data(Reader())
        return Ranges(calibrator.compute_data())


def to_int8(
    source: Path,
    target: Path,
    ranges: Ranges,
    keep: Sequence[str] = (),
    only: Sequence[str] = (),
) -> None:
    """Write a graph for CPUs whose convolutions compute in integers.

    Args:
        source: the float32 graph.
        target: where to write.
        ranges: of its tensors, see :func:`calibrate`.
        keep: names of convolutions that stay float32.
        only: names of the only convolutions to quantise; if empty, all are quantised.
    """
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    with _quiet():
        quantizer = QDQQuantizer(
            onnx.load(source),
            per_channel=True,
            reduce_range=False,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=ranges.tensors,
            nodes_to_quantize=list(only),
            nodes_to_exclude=list(keep),
            op_types_to_quantize=["Conv"],
            extra_options={
                "ActivationSymmetric": False,
                "WeightSymmetric": True,
                "QuantizeBias": True,
            },
        )
        quantizer.quantize_model()
        quantizer.model.save_model_to_file(str(target))
    onnx.checker.check_model(target, full_check=True)


def convolutions(source: Path) -> list[str]:
    """Names of the convolutions of a graph, in order."""
    return [node.name for node in onnx.load(source).graph.node if node.op_type == "Conv"]


def sensitivities(
    source: Path,
    ranges: Ranges,
    feeds: Feeds,
    folder: Path,
    report: Callable[[int, int], None] = lambda *_: None,
) -> dict[str, float]:
    """Measure the error of the outputs when a single convolution is quantised, for each in turn.

    Args:
        source: the float32 graph.
        ranges: of its tensors, see :func:`calibrate`.
        feeds: inputs to measure with; a few are enough.
        folder: for temporary files.
        report: called with the number of convolutions measured so far, and the number of all.

    Returns:
        by convolution: the root mean square error divided by the standard deviation, of the output
        where it is largest.
    """
    expected = [_outputs(source, [feed])[0] for feed in feeds]
    names, errors = convolutions(source), {}
    for number, name in enumerate(names):
        candidate = folder / "one.onnx"
        to_int8(source, candidate, ranges, only=[name])
        errors[name] = max(
            float(np.sqrt(np.mean((plain - quantised) ** 2)) / (plain.std() + 1e-12))
            for outputs, others in zip(expected, _outputs(candidate, feeds), strict=True)
            for plain, quantised in zip(outputs, others, strict=True)
        )
        report(number + 1, len(names))
    return errors


def most_sensitive(errors: Mapping[LayerKey, float], share: float) -> list[LayerKey]:
    """The given share of convolutions, those with the largest errors first.

    >>> most_sensitive({"a": 0.1, "b": 0.5, "c": 0.2, "d": 0.0}, 0.5)
    ['b', 'c']
    """
    order = sorted(errors, key=lambda layer: -errors[layer])
    return order[: round(share * len(order))]


def _outputs(file: Path, feeds: Feeds) -> list[list[Array]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    # Which cells are the best is a matter of order: two that are alike may change places.
    names = [each.name for each in session.get_outputs() if not _is_choice(each.name)]
    return [session.run(names, dict(feed)) for feed in feeds]


def _is_choice(output: str) -> bool:
    return output in CELL_OUTPUTS or output == "cell_kernel"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the quantiser, which logs advice to its developers through the root logger."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
