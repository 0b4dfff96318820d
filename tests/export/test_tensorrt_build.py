"""Real TensorRT-RTX engines, built on a CPU for named GPUs; their log lists what is in them."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from fake_gpu import FakeDevice
from helpers import run_visolo
from visolo_core.contract import GRAPHS, GraphName, GraphSpec, TensorSpec
from visolo_core.errors import NotHereError, VisoloError
from visolo_core.pixels import PIXEL_GRAPHS
from visolo_export.engine_layers import EngineLayer, layers_of
from visolo_export.precision import convolutions, to_fp16
from visolo_export.quantisation import Ranges
from visolo_export.tensorrt_build import TensorRt, usual_lengths
from visolo_export.tensorrt_quantisation import quantise
from visolo_runtime.bundle import Bundle, Precision
from visolo_runtime.models.shipped import shipped_weights
from visolo_train.data.synthetic import draw_clip

pytest.importorskip("tensorrt_rtx", reason="install visolo[rtx]")
WEIGHTS = shipped_weights()


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
    [("fp32", "Float", {"Half", "Int8"}), ("fp16", "Half", {"Int8"}), ("int8", "Int8", set())],
)
def test_convolutions_are_of_the_promised_type(
    bundle: Path, precision: str, type_name: str, others: set[str]
) -> None:
    """Of all graphs. What int8 convolutions write is float16."""
    layers = [layer for graph in GRAPHS for layer in sidecar(bundle, precision, graph)["layers"]]
    convolutions = [layer for layer in layers if layer["kind"] == "correlation"]
    assert len(convolutions) >= 45
    of_type = [layer for layer in convolutions if type_name in layer["precisions"]]
    assert len(of_type) >= 0.9 * len(convolutions)
    assert not any(others & set(layer["precisions"]) for layer in convolutions)
    written = [layer for layer in convolutions if "Float" in layer["writes"]]
    assert len(written) == (len(convolutions) if precision == "fp32" else 0)


def test_fusions_happened(bundle: Path) -> None:
    """A convolution includes its ReLU and the sum of a residual block; the image's cast,
    transposition and normalisation are one layer."""
    fused = names_of_layers(bundle, "fp32")
    assert sum("conv2d" in names and "relu" in names for names in fused) >= 15
    assert sum("conv2d" in names and "add" in names for names in fused) >= 4
    assert any("permute" in names and "sub" in names and "div" in names for names in fused)


def test_fusions_in_int8(bundle: Path) -> None:
    """The channels' scales, the bias, the ReLU, the sum of a residual block and the quantisation of
    what comes out are one layer between two convolutions."""
    fused = names_of_layers(bundle, "int8")
    between = [
        names
        for names in fused
        if all(word in names for word in ("_scale", "_bias", "relu", "quantise_"))
    ]
    assert len(between) >= 10
    assert sum("add" in names for names in between) >= 4


def names_of_layers(bundle: Path, precision: str) -> list[str]:
    """For each layer of all engines, the nodes that it computes."""
    layers = [layer for graph in GRAPHS for layer in sidecar(bundle, precision, graph)["layers"]]
    return [" ".join(layer["onnx_layers"]) for layer in layers]


def test_the_sidecar_says_what_an_engine_is(bundle: Path) -> None:
    description = sidecar(bundle, "fp16", "decode")
    assert description["library"] == "tensorrt-rtx"
    assert description["targets"] == ["sm86", "sm89"]
    assert description["profile"] == {"N": [1, 8, 32]}
    assert [tensor["name"] for tensor in description["tensors"]] == [
        "mask_features", "kernels", "masks", "area", "probability_sum", "intersection",
    ]  # fmt: skip
    assert len(description["onnx_sha256"]) == 64
    assert 0 < description["seconds"] < 60
    manifest = Bundle(bundle).manifest
    for graphs in manifest.graphs:
        assert graphs.library == description["version"]
        assert graphs.targets == ["sm86", "sm89"]
    Bundle(bundle).check_files()


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_engines_that_resize_frames(bundle: Path, precision: str) -> None:
    """They count in float32 whatever the network's precision is, for frames up to 4K."""
    for graph in PIXEL_GRAPHS:
        description = sidecar(bundle, precision, graph)
        kinds = {kind for layer in description["layers"] for kind in layer["precisions"]}
        assert kinds == {"Float", "Int32", "UInt8"}
        assert description["targets"] == ["sm86", "sm89"]
        assert description["profile"]["pitch"] == [1, 3 * 1920, 4 * 3840]
    graphs = Bundle(bundle).graphs("tensorrt-rtx", precision)
    assert graphs.pixels.keys() == set(PIXEL_GRAPHS)
    assert len(Bundle(bundle).pixel_files_of(graphs)) == 2


def test_a_bundle_of_engines_alone_says_why_it_cannot_run(bundle: Path, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "0.png")
    try:
        import pycuda.driver  # noqa: F401
    except ImportError:
        run_visolo("run", bundle, tmp_path).refused("nothing here can run", "pycuda")


def test_a_truncated_engine(bundle: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "copy.visolo"))
    plan = next((copy / "tensorrt-rtx").glob("frame*.engine"))
    plan.write_bytes(plan.read_bytes()[:-100])
    Image.new("RGB", (64, 64)).save(tmp_path / "0.png")
    command = ("run", copy, tmp_path / "0.png", "--backend", "tensorrt-rtx")
    run_visolo(*command).refused("frame", "checksum")


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
        (lambda path: graph_of("Transpose", path, perm=[0, 5]), "not a valid graph"),
        (lambda path: path.write_bytes(b"not a graph") and path, "not a valid graph"),
    ],
)
def test_graphs_that_cannot_be_built(
    tmp_path: Path, make: Callable[[Path], Path], words: str
) -> None:
    with pytest.raises(VisoloError, match=words):
        TensorRt("tensorrt-rtx").build(make(tmp_path / "g.onnx"), SPEC, {}, ("sm86",))


def test_the_gpu_that_is_there(lite_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that was built without targets says which GPU it was built on; on a machine without
    a GPU one is told to name them."""
    graph: GraphName = "memory"
    file, spec = lite_bundle / "memory.onnx", Bundle(lite_bundle).manifest.contract[graph]
    lengths = usual_lengths(24, 1)
    with pytest.raises(NotHereError, match="name GPUs with --target, or build where the GPU is"):
        TensorRt("tensorrt-rtx").build(file, spec, lengths)
    set_targets = TensorRt._set_targets
    monkeypatch.setattr("visolo_export.tensorrt_build.find_device", lambda library: FakeDevice())
    monkeypatch.setattr(
        TensorRt,
        "_set_targets",
        lambda self, config, targets, log: set_targets(self, config, ("sm86",), log),
    )
    built = TensorRt("tensorrt-rtx").build(file, spec, lengths)
    assert built.targets == ("sm86",)
    assert built.as_dict()["targets"] == ["sm86"]


def test_int8_on_sm75(tmp_path: Path) -> None:
    command = ("export", WEIGHTS, "-o", tmp_path / "m", "--format", "tensorrt-rtx")
    quantised = ("--precision", "int8", "--calibrate", "drawn.mp4")
    run_visolo(*command, *quantised, "--target", "sm75").refused("sm80 or later, not sm75")
    assert not (tmp_path / "m").exists()


def test_no_layers_in_a_log_without_them() -> None:
    assert layers_of(["something else"]) == ()


def any_ranges() -> Ranges:
    """Ranges of whatever tensor: what is built does not depend on them."""
    return Ranges(defaultdict(lambda: SimpleNamespace(range_value=np.array([-4.0, 4.0]))))


@pytest.mark.parametrize("targets", [("sm86", "sm89")])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_the_papers_network_builds(
    precision: Precision, targets: tuple[str, ...], paper_bundle: Path, tmp_path: Path
) -> None:
    """All its graphs, for two kinds of GPU at once."""
    contract = Bundle(paper_bundle).manifest.contract
    layers: list[EngineLayer] = []
    for graph in GRAPHS:
        file = plain = paper_bundle / f"{graph}.onnx"
        if precision != "fp32" and convolutions(plain):
            file = tmp_path / plain.name
            if precision == "fp16":
                to_fp16(plain, file)
            else:
                quantise(plain, file, "int8", any_ranges())
        lengths = usual_lengths(252, 1)
        built = TensorRt("tensorrt-rtx").build(file, contract[graph], lengths, targets)
        assert len(built.plan) > 10_000
        assert built.targets == targets
        layers += built.layers
    correlations = [layer for layer in layers if layer.kind == "correlation"]
    promised = {"fp32": "Float", "fp16": "Half", "int8": "Int8"}[precision]
    assert len(correlations) > 60  # some run in pairs
    of_type = [layer for layer in correlations if promised in layer.precisions]
    assert len(of_type) >= 0.9 * len(correlations)


@pytest.mark.parametrize(
    ("graph", "profile"),
    [("frame", {"B": (1, 3, 3)}), ("memory", {"B": (1, 3, 3)}), ("decode", {"N": (1, 8, 32)})],
)
def test_profiles_over_streams_and_masks(
    graph: GraphName, profile: dict[str, tuple[int, int, int]], batched_bundle: Path, tmp_path: Path
) -> None:
    manifest = Bundle(batched_bundle).manifest
    file = batched_bundle / f"{graph}.onnx"
    if convolutions(file):
        to_fp16(file, tmp_path / file.name)
        file = tmp_path / file.name
    lengths = usual_lengths(manifest.model.cells, manifest.batch)
    built = TensorRt("tensorrt-rtx").build(file, manifest.contract[graph], lengths, ("sm86",))
    assert built.profile == profile
