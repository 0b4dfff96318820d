"""The exported graphs keep the contract, and every engine builder reads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from helpers import Outcome
from untrained import untrained
from visolo_core.categories import unnamed
from visolo_core.checkpoint_header import CheckpointHeader
from visolo_core.config import ModelConfig
from visolo_core.contract import GRAPHS
from visolo_core.nn.checkpoint import Checkpoint, save_checkpoint
from visolo_export.onnx_export import OPSET
from visolo_runtime.bundle import Bundle
from visolo_runtime.engines.openvino.backend import shared_core
from visolo_runtime.session.loading import load

Visolo = Callable[..., Outcome]


@pytest.mark.parametrize("graph", GRAPHS)
def test_names_types_and_shapes_are_the_contracts(lite_bundle: Path, graph: str) -> None:
    proto = onnx.load(lite_bundle / f"{graph}.onnx")
    onnx.checker.check_model(proto, full_check=True)
    assert [opset.version for opset in proto.opset_import if not opset.domain] == [OPSET]
    spec = Bundle(lite_bundle).manifest.contract[graph]  # type: ignore[index]
    for values, tensors in ((proto.graph.input, spec.inputs), (proto.graph.output, spec.outputs)):
        for value, tensor in zip(values, tensors, strict=True):
            kind = value.type.tensor_type
            dims = tuple(dim.dim_param or dim.dim_value for dim in kind.shape.dim)
            dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
            assert (value.name, np.dtype(dtype).name, dims) == (
                tensor.name, tensor.dtype, tensor.shape,
            )  # fmt: skip


def test_batch_norms_are_folded_and_no_path_of_the_exporter_remains(lite_bundle: Path) -> None:
    proto = onnx.load(lite_bundle / "frame.onnx")
    kinds = {node.op_type for node in proto.graph.node}
    assert "BatchNormalization" not in kinds
    stack_traces = [
        prop.value
        for node in proto.graph.node
        if "backbone" in node.name or "conv2d" in node.name
        for prop in node.metadata_props
        if prop.key.endswith("stack_trace")
    ]
    assert stack_traces == []
    assert str(Path(__file__).parents[2]).encode() not in proto.SerializeToString()


@pytest.mark.parametrize("graph", GRAPHS)
def test_openvino_reads_it(lite_bundle: Path, graph: str) -> None:
    pytest.importorskip("openvino", reason="install visolo[openvino]")
    model = shared_core().read_model(lite_bundle / f"{graph}.onnx")
    names = [value.any_name for value in model.inputs]
    assert names == [t.name for t in Bundle(lite_bundle).manifest.contract[graph].inputs]  # type: ignore[index]


@pytest.mark.parametrize("graph", GRAPHS)
def test_tensorrt_reads_it(lite_bundle: Path, graph: str) -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason="install tensorrt-rtx")
    logger = trt.Logger(trt.Logger.ERROR)
    network = trt.Builder(logger).create_network(0)
    parser = trt.OnnxParser(network, logger)
    read = parser.parse_from_file(str(lite_bundle / f"{graph}.onnx"))
    assert read, [parser.get_error(index).desc() for index in range(parser.num_errors)]
    assert network.num_outputs == len(Bundle(lite_bundle).manifest.contract[graph].outputs)  # type: ignore[index]


@pytest.mark.parametrize("classes", [1, 90])
def test_any_class_count_and_shape_of_network(classes: int, tmp_path: Path, visolo: Visolo) -> None:
    config = ModelConfig(
        backbone="resnet18",
        width=16,
        groups=4,
        grid=(4, 7),
        classes=classes,
        input_size=(80, 112),
    )
    weights, bundle = tmp_path / "weights.pt", tmp_path / "model.visolo"
    header = CheckpointHeader(config, unnamed(classes))
    save_checkpoint(weights, Checkpoint(header, untrained(config).state_dict()))
    visolo("export", weights, "-o", bundle, "--memory-slots", 3).succeeded()
    assert Bundle(bundle).manifest.slots == 3
    outcome = visolo("verify", bundle, "--reference", weights, "--frames", 8, "--json")
    assert outcome.status == 0, outcome.out
    outputs = {each.name: each.shape for each in load(bundle).engines.contract["frame"].outputs}
    assert outputs["scores"] == (1, classes, 28)
    assert outputs["cell_classes"] == (1, 28, classes)  # as many places as there are cells


@pytest.mark.parametrize(
    ("backbone", "norm"), [("mobilenet_v2", "batch"), ("mobilenet_v2_fpn", "frozen")]
)
def test_a_network_on_mobilenet(backbone: str, norm: str, tmp_path: Path, visolo: Visolo) -> None:
    """Folded, and the same from the weights to each library."""
    pytest.importorskip("openvino", reason="install visolo[openvino]")
    config = ModelConfig(
        backbone=backbone, backbone_width=32, backbone_norm=norm, width=16, groups=4,
        grid=(4, 6), classes=7, input_size=(64, 96),
    )  # fmt: skip
    weights, bundle = tmp_path / "weights.pt", tmp_path / "model.visolo"
    header = CheckpointHeader(config, unnamed(7))
    save_checkpoint(weights, Checkpoint(header, untrained(config).state_dict()))
    visolo("export", weights, "-o", bundle, "--format", "onnx,openvino").succeeded()
    kinds = {node.op_type for node in onnx.load(bundle / "frame.onnx").graph.node}
    assert "BatchNormalization" not in kinds
    for backend in ("onnxruntime", "openvino"):
        outcome = visolo(
            "verify", bundle, "--reference", weights, "--frames", 6, "--backend", backend, "--json"
        )
        assert outcome.status == 0, outcome.out


def test_exporting_twice_gives_the_same_files(
    lite_bundle: Path, lite_weights: Path, tmp_path: Path, visolo: Visolo
) -> None:
    again = tmp_path / "again.visolo"
    visolo("export", lite_weights, "-o", again).succeeded()
    assert Bundle(again).manifest.files == Bundle(lite_bundle).manifest.files


def test_an_older_bundle_is_replaced_and_anything_else_is_not(
    lite_bundle: Path, lite_weights: Path, tmp_path: Path, visolo: Visolo
) -> None:
    import shutil

    target = Path(shutil.copytree(lite_bundle, tmp_path / "model.visolo"))
    (target / "old.engine").write_text("stale")
    visolo("export", lite_weights, "-o", target, "--set", "score_threshold=0.2").succeeded()
    assert Bundle(target).manifest.inference.score_threshold == 0.2
    assert not (target / "old.engine").exists()
    (tmp_path / "photos").mkdir()
    visolo("export", lite_weights, "-o", tmp_path / "photos").refused("is not a bundle")
    visolo("export", lite_weights, "-o", tmp_path / "no" / "m").refused("cannot write")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.visolo", "photos"]


def test_a_failed_export_leaves_nothing(
    lite_weights: Path, tmp_path: Path, visolo: Visolo, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("visolo_export.graph_source.export_graphs", fail)
    visolo("export", lite_weights, "-o", tmp_path / "m.visolo").refused("no space left")
    assert list(tmp_path.iterdir()) == []


def test_unknown_formats(lite_weights: Path, tmp_path: Path, visolo: Visolo) -> None:
    outcome = visolo("export", lite_weights, "-o", tmp_path / "m", "--format", "caffe")
    assert outcome.status == 2
