"""Real TensorRT-RTX engines, built on a CPU for named GPUs; their log tells what is in them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from helpers import run_visolo
from visolo_core.contract import GRAPHS, GraphSpec, TensorSpec
from visolo_core.errors import VisoloError
from visolo_export.tensorrt_build import TensorRt, layers_of
from visolo_runtime import shipped_model
from visolo_runtime.bundle import Bundle
from visolo_train.synthetic import draw_clip

pytest.importorskip("tensorrt_rtx", reason="install visolo[rtx]")
WEIGHTS = shipped_model().with_name("lite.safetensors")
LAST_CONVOLUTION = 51  # of the lite network's frame graph


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lite network for two GPUs, in three precisions."""
    folder = tmp_path_factory.mktemp("rtx")
    frames = folder / "frames"
    frames.mkdir()
    for number, frame in enumerate(draw_clip(2026, 38, 10, 192, 336).frames):
        Image.fromarray(frame).save(frames / f"{number:02}.png")
    run_visolo(
        "export", WEIGHTS, "-o", folder / "lite.visolo", "--format", "tensorrt-rtx",
        "--precision", "fp32,fp16,int8", "--calibrate", frames, "--keep", 0,
        "--target", "sm86,sm89",
    ).succeeded()  # fmt: skip
    return folder / "lite.visolo"


def sidecar(bundle: Path, precision: str, graph: str = "frame") -> Any:
    folder = "tensorrt-rtx" if precision == "fp32" else f"tensorrt-rtx-{precision}"
    return json.loads((bundle / folder / f"{graph}.json").read_text())


@pytest.mark.parametrize(
    ("precision", "type_name", "others"),
    [("fp32", "Float", {"Half", "Int8"}), ("fp16", "Half", {"Int8"}), ("int8", "Int8", {"Half"})],
)
def test_convolutions_are_of_the_promised_type(
    bundle: Path, precision: str, type_name: str, others: set[str]
) -> None:
    layers = sidecar(bundle, precision)["layers"]
    convolutions = [layer for layer in layers if layer["kind"] == "correlation"]
    assert len(convolutions) >= 45
    of_type = [layer for layer in convolutions if type_name in layer["precisions"]]
    assert len(of_type) >= 0.9 * len(convolutions)
    assert not any(others & set(layer["precisions"]) for layer in convolutions)


def test_fusions_happened(bundle: Path) -> None:
    """A convolution takes its ReLU along, and the sum of a residual block; the picture's cast,
    transposition and normalisation are one layer."""
    fused = [" ".join(layer["onnx_layers"]) for layer in sidecar(bundle, "fp32")["layers"]]
    assert sum("conv2d" in names and "relu" in names for names in fused) >= 15
    assert sum("conv2d" in names and "add" in names for names in fused) >= 4
    assert any("permute" in names and "sub" in names and "div" in names for names in fused)


def test_the_sidecar_says_what_an_engine_is(bundle: Path) -> None:
    found = sidecar(bundle, "fp16", "decode")
    assert found["library"] == "tensorrt-rtx"
    assert found["targets"] == ["sm86", "sm89"]
    assert found["masks"] == [1, 8, 32]
    assert [tensor["name"] for tensor in found["tensors"]] == [
        "mask_features", "kernels", "masks", "area", "probability_sum", "intersection",
    ]  # fmt: skip
    assert len(found["onnx_sha256"]) == 64
    assert 0 < found["seconds"] < 60
    manifest = Bundle(bundle).manifest
    for graphs in manifest.graphs:
        assert graphs.library == found["version"]
        assert graphs.targets == ["sm86", "sm89"]
    Bundle(bundle).check_files()


def test_a_bundle_of_engines_alone_says_why_it_cannot_run(bundle: Path, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "0.png")
    try:
        import pycuda.driver  # noqa: F401
    except ImportError:
        run_visolo("run", bundle, tmp_path).refused("nothing here can run", "pycuda")


SPEC = GraphSpec((TensorSpec("x", "float32", (1, 3)),), (TensorSpec("y", "float32", (1, 3)),))


def graph_of(operator: str, path: Path, domain: str = "", **attributes: Any) -> Path:
    node = onnx.helper.make_node(operator, ["x"], ["y"], "culprit", domain=domain, **attributes)
    kind = onnx.helper.make_tensor_value_info
    sides = [kind(name, onnx.TensorProto.FLOAT, [1, 3]) for name in ("x", "y")]
    graph = onnx.helper.make_graph([node], "g", sides[:1], sides[1:])
    opsets = [onnx.helper.make_opsetid("", 20), onnx.helper.make_opsetid("my.own", 1)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: graph_of("Frobnicate", path, "my.own"), "Frobnicate 'culprit'"),
        (lambda path: graph_of("Transpose", path, perm=[0, 5]), "no valid graph"),
        (lambda path: path.write_bytes(b"not a graph") and path, "no valid graph"),
    ],
)
def test_graphs_that_cannot_be_built(
    tmp_path: Path, make: Callable[[Path], Path], words: str
) -> None:
    with pytest.raises(VisoloError, match=words):
        TensorRt("tensorrt-rtx").build(make(tmp_path / "g.onnx"), SPEC, (1, 1, 1), ("sm86",))


def test_float32_on_sm75(bundle: Path, tmp_path: Path) -> None:
    """That GPU has no float32 matrix product in TensorRT-RTX: its own words are passed on."""
    command = ("export", WEIGHTS, "-o", tmp_path / "m", "--format", "tensorrt-rtx")
    run_visolo(*command, "--target", "sm75").refused("SM75", "FP32 GEMM is not supported")
    assert not (tmp_path / "m").exists()


def test_no_layers_in_a_log_without_them() -> None:
    assert layers_of(["something else"]) == ()


@pytest.mark.parametrize("graph", GRAPHS)
def test_the_papers_network_builds(
    graph: str, tmp_path_factory: pytest.TempPathFactory, paper_bundle: Path
) -> None:
    spec = Bundle(paper_bundle).manifest.contract[graph]  # type: ignore[index]
    built = TensorRt("tensorrt-rtx").build(
        paper_bundle / f"{graph}.onnx", spec, (1, 8, 32), ("sm86",)
    )
    assert len(built.plan) > 10_000
    if graph == "frame":
        kinds = [layer.kind for layer in built.layers]
        assert kinds.count("correlation") > 70
    assert np.isfinite(built.seconds)
