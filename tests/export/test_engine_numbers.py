"""What the graphs of engines compute: on the CPU, where ONNX Runtime runs them as they are written,
but for bfloat16, which it only rounds to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from benchmarks.bfloat16 import rounded_to_bfloat16
from benchmarks.engine_table import AsWritten
from engine_graphs import EngineGraphs
from visolo_core.contract import GRAPHS, GraphName
from visolo_export.precision import nodes_of, to_bf16, to_fp16
from visolo_export.quantisation import calibrate
from visolo_export.rtx_graphs import suit_rtx
from visolo_export.tensorrt_quantisation import Quantised, float16_above, quantise
from visolo_export.verification import Tolerance, Verification, verify
from visolo_runtime.bundle import Bundle, Precision
from visolo_runtime.engines.buffers import Array
from visolo_runtime.engines.engine import Engines
from visolo_runtime.engines.onnxruntime.backend import OnnxRuntimeBackend
from visolo_runtime.models.shipped import shipped_model
from visolo_runtime.session.loading import Model, load
from visolo_runtime.sources.opening import open_source

Files = dict[GraphName, Path]


@pytest.fixture(autouse=True)
def as_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime 1.32 rewrites fp8 graphs into others, whose results are wrong by half of their
    range."""
    monkeypatch.setattr(onnxruntime, "SessionOptions", AsWritten)


@pytest.fixture(scope="module")
def reference() -> Model:
    return load(shipped_model(), "onnxruntime")


@pytest.fixture(scope="module")
def clip(drawn_frames: Path) -> list[Any]:
    return list(open_source(str(drawn_frames))[0].pictures())


def verified(files: Files, reference: Model, clip: list[Any]) -> Verification:
    engines = Engines.compile(OnnxRuntimeBackend(files), reference.engines.contract)
    model = Model(reference.config, reference.inference, reference.labels, engines)
    return verify(reference, model, clip, Tolerance())


def frame_errors(result: Verification) -> float:
    """The largest error of a tensor of the networks' graphs, relative to its largest value."""
    tensors = [each for graph, each in result.tensors.items() if graph != "decode"]
    return max(error.relative for each in tensors for error in each.values())


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_sixteen_bits_keep_the_tracks(
    precision: Precision, engine_graphs: EngineGraphs, reference: Model, clip: list[Any],
    tmp_path: Path,
) -> None:  # fmt: skip
    """Every track is there, in the same frames. The error is some roundings, of 11 or 8 bits."""
    files = dict(engine_graphs.files(precision))
    if precision == "bf16":
        for graph, file in files.items():
            files[graph] = rounded_to_bfloat16(file, tmp_path / file.name)
    result = verified(files, reference, clip)
    rounding = {"fp16": 2**-11, "bf16": 2**-8}[precision]
    assert rounding < frame_errors(result) < 8 * rounding
    assert result.tracks.reference_tracks >= 4
    assert result.tracks.same_tracks


@pytest.mark.parametrize(("precision", "most"), [("int8", 0.06), ("fp8", 0.2)])
def test_eight_bits(
    precision: Precision, most: float, engine_graphs: EngineGraphs, reference: Model,
    clip: list[Any],
) -> None:  # fmt: skip
    """int8 is closer to float32 than the int8 graphs for CPUs are, 0.064 (docs/formats.md). fp8 has
    four bits less for the large numbers of a tensor."""
    result = verified(engine_graphs.files(precision), reference, clip[:5])
    assert most / 4 < frame_errors(result) < most
    assert result.tensors["frame"]["scores"].absolute < 0.06
    assert result.tracks.candidate_tracks >= result.tracks.reference_tracks - 2


def run(model: Path | onnx.ModelProto, feed: dict[str, Array]) -> list[Array]:
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    outputs: list[Array] = session.run(None, feed)
    return outputs


def random_feed(graph: GraphName) -> dict[str, Array]:
    """Inputs of a graph; of what is not fixed, three."""
    random = np.random.default_rng(15)
    feed = {}
    for tensor in Bundle(shipped_model()).manifest.contract[graph].inputs:
        shape = tensor.sized({"N": 3, "B": 3})
        numbers = random.normal(size=shape) if tensor.dtype == "float32" else random.random(shape)
        scale = 255 if tensor.dtype == "uint8" else 1
        feed[tensor.name] = (numbers * scale).astype(tensor.dtype)
    return feed


@pytest.mark.parametrize("graph", GRAPHS)
def test_products_on_turing(graph: GraphName) -> None:
    """Float32 products written as sums are the same products."""
    model, feed = onnx.load(shipped_model() / f"{graph}.onnx"), random_feed(graph)
    expected = run(model, feed)
    suit_rtx(model, ["sm75"])
    onnx.checker.check_model(model, full_check=True)
    assert "MatMul" not in {node.op_type for node in model.graph.node}
    for ours, theirs in zip(run(model, feed), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_half_products_stay_on_turing() -> None:
    """Nothing but float32 products is rewritten."""
    half = helper.make_tensor_value_info("x", TensorProto.FLOAT16, [2, 2])
    product = helper.make_node("MatMul", ["x", "x"], ["y"], "product")
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT16, [2, 2])
    graph = helper.make_graph([product], "g", [half], [result])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    before = model.SerializeToString()
    suit_rtx(model, ["sm75"])
    assert model.SerializeToString() == before


def convolution(folder: Path, spread: float, bias: bool) -> Path:
    """A graph of one convolution, whose channels differ in size by a factor of ``spread``."""
    random = np.random.default_rng(7)
    weight = random.normal(size=(8, 4, 3, 3)) * np.geomspace(1, spread, 8)[:, None, None, None]
    tensors = {"w": weight, **({"b": random.normal(size=8)} if bias else {})}
    sides = {"x": [1, 4, 12, 12], "y": [1, 8, 10, 10]}
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in sides.items()
    ]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", *tensors], ["y"], "convolution")], "g", values[:1],
        values[1:],
        [numpy_helper.from_array(each.astype(np.float32), name) for name, each in tensors.items()],
    )  # fmt: skip
    path = folder / "convolution.onnx"
    # A node outside of all modules would stay float32.
    entry = graph.node[0].metadata_props.add()
    entry.key, entry.value = "pkg.torch.onnx.name_scopes", "['', 'branch', 'branch.conv', 'conv']"
    opset = helper.make_opsetid("", 20)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=10), path)
    return path


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("precision", "error"), [("int8", 0.02), ("fp8", 0.06)])
@pytest.mark.parametrize("spread", [1, 1e-3])
def test_a_convolution(
    precision: Quantised, error: float, bias: bool, spread: float, tmp_path: Path
) -> None:
    """Each channel is as close as its own values allow, also a small one: int8 has scales by
    channel, fp8 an exponent. TensorRT-RTX's form of it computes the same."""
    source = convolution(tmp_path, spread, bias)
    feed = {"x": np.random.default_rng(8).normal(size=(1, 4, 12, 12)).astype(np.float32)}
    quantise(source, tmp_path / "q.onnx", precision, calibrate(source, [feed]))
    model = onnx.load(tmp_path / "q.onnx")
    (expected,), (as_tensorrt,) = run(source, feed), run(model, feed)
    suit_rtx(model, ["sm86"])
    onnx.checker.check_model(model, full_check=True)
    (as_rtx,) = run(model, feed)
    for channel in range(8):
        size = expected[0, channel].std()
        for result in (as_tensorrt, as_rtx):
            assert np.sqrt(np.mean((result - expected)[0, channel] ** 2)) < error * size
        np.testing.assert_allclose(
            as_rtx[0, channel], as_tensorrt[0, channel], atol=4e-3 * size + 2e-3 * bias
        )


def test_what_is_not_quantised(engine_graphs: EngineGraphs, tmp_path: Path) -> None:
    """Layers that are kept are float16, named modules float32, and norms, the reading of the memory
    and the normalisation of the picture are float32 as in fp16 graphs."""
    source, target = shipped_model() / "frame.onnx", tmp_path / "int8.onnx"
    float32 = ["backbone.layer1"]
    kept = nodes_of(onnx.load(source).graph, ["backbone.layer2"])
    quantise(source, target, "int8", engine_graphs.ranges("frame"), kept, float32)
    graph = onnx.load(target).graph
    weights = {tensor.name: tensor.data_type for tensor in graph.initializer}
    named = {name: nodes_of(graph, [name]) for name in ("backbone.layer1", "backbone.layer2")}
    types: dict[str, set[int | None]] = {"backbone.layer1": set(), "backbone.layer2": set()}
    for node in graph.node:
        for name in types:
            if node.op_type == "Conv" and node.name in named[name]:
                types[name].add(weights.get(node.input[1]))
    assert types["backbone.layer1"] == {TensorProto.FLOAT}
    assert types["backbone.layer2"] == {TensorProto.FLOAT16}
    half = onnx.load(engine_graphs.files("fp16")["frame"]).graph
    assert operators_in_float32(target) >= operators_in_float32(
        engine_graphs.files("fp16")["frame"]
    )
    assert len(half.node) < len(graph.node)


def operators_in_float32(file: Path) -> set[str]:
    """Names of the nodes that return float32, without casts."""
    model = onnx.load(file)
    values = onnx.shape_inference.infer_shapes(model).graph
    float32 = {
        value.name
        for value in (*values.value_info, *values.output)
        if value.type.tensor_type.elem_type == TensorProto.FLOAT
    }
    return {
        node.name
        for node in model.graph.node
        if node.op_type != "Cast" and float32.intersection(node.output)
    }


def test_the_skip_of_a_residual_block_is_the_quantised_tensor(engine_graphs: EngineGraphs) -> None:
    graph = onnx.load(engine_graphs.files("int8")["frame"]).graph
    pairs = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    sums = [node for node in graph.node if node.op_type == "Add"]
    assert sum(bool(pairs.intersection(node.input)) for node in sums) >= 4
    # One pair for a tensor, however many convolutions read it.
    read = [node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"]
    assert len(read) == len(set(read))


@given(st.floats(1e-7, 60_000))
def test_scales_are_rounded_up(number: float) -> None:
    """Rounded down, the largest value of a tensor would not fit any more."""
    scale = float(float16_above(np.array(number)))
    assert number <= scale <= number * (1 + 2**-10) + 2**-24


def louder(source: Path, target: Path, factor: float) -> None:
    """Write a network with features in the mask branch that are larger by a factor, from the norm
    at its entry to the one after its last residual block, which takes the factor out again."""
    model = onnx.load(source)
    within = "mask_branch."
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    chosen = {
        name
        for name in constants
        if within in name
        and not name.endswith(("entry.conv.bias", "predict.conv.bias"))
        and (name.endswith(".bias") or ".skip." in name)
    }
    entry = set(nodes_of(model.graph, ["mask_branch.entry.norm"]))
    for node in model.graph.node:
        if node.name in entry and node.op_type in ("Mul", "Add"):
            chosen.update(name for name in node.input if name in constants)
    for name in chosen:
        numbers = numpy_helper.to_array(constants[name]) * np.float32(factor)
        constants[name].CopyFrom(numpy_helper.from_array(numbers, name))
    onnx.save(model, target)


def test_bfloat16_where_float16_overflows(tmp_path: Path) -> None:
    """Features of 200,000, which float16 cannot hold: fp16 computes no masks any more, and bf16
    those of float32."""
    graphs = [shipped_model() / f"{graph}.onnx" for graph in GRAPHS]
    source = next(
        file
        for file in graphs
        if any("mask_branch" in tensor.name for tensor in onnx.load(file).graph.initializer)
    )
    louder(source, tmp_path / "loud.onnx", 500.0)
    to_fp16(tmp_path / "loud.onnx", tmp_path / "fp16.onnx")
    to_bf16(tmp_path / "loud.onnx", tmp_path / "bf16.onnx")
    rounded_to_bfloat16(tmp_path / "bf16.onnx", tmp_path / "rounded.onnx")
    names = [output.name for output in onnx.load(source).graph.output]
    at = names.index("mask_features")
    feed = random_feed(source.stem)  # type: ignore[arg-type]
    expected, loud, half, brain = (
        run(file, feed)[at]
        for file in (source, *(tmp_path / f"{name}.onnx" for name in ("loud", "fp16", "rounded")))
    )
    np.testing.assert_allclose(loud, expected, atol=1e-3)
    assert not np.isfinite(half).all()
    assert np.sqrt(np.mean((brain - expected) ** 2)) < 0.02 * expected.std()


def test_bfloat16_weights_keep_their_range(tmp_path: Path) -> None:
    """They are rounded once, from float32: float16 holds no number of 1e-9."""
    source, target = convolution(tmp_path, 1e-9, bias=False), tmp_path / "bf16.onnx"
    to_bf16(source, target)
    weights = [onnx.load(file).graph.initializer[0] for file in (source, target)]
    assert weights[1].data_type == TensorProto.BFLOAT16
    plain, rounded = (numpy_helper.to_array(each).astype(np.float32) for each in weights)
    np.testing.assert_allclose(rounded, plain, rtol=2**-8)
