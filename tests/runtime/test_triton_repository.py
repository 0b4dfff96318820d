"""The model repository, and its model called as Triton's Python backend calls it."""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import Outcome
from triton_standin import (
    InferenceRequest,
    Replica,
    TritonModelException,
    frame_of,
    parsed,
    text_of,
)
from visolo_core.errors import VisoloError
from visolo_core.masks import decode_rle
from visolo_runtime.bundle import Bundle
from visolo_runtime.models.shipped import shipped_model, shipped_weights
from visolo_runtime.session.loading import load
from visolo_runtime.triton.messages import ANSWER_TENSORS, REQUEST_TENSORS
from visolo_runtime.triton.repository import (
    ReplicaOptions,
    config_text,
    write_model,
    write_repository,
)
from visolo_runtime.video.sample_clip import sample_frames

Visolo = Callable[..., Outcome]
FRAMES = list(sample_frames(3, 96, 160))
ONE_THREAD = ReplicaOptions(streams=2, backend="onnxruntime", threads=1)


def files(folder: Path) -> set[str]:
    return {each.relative_to(folder).as_posix() for each in folder.rglob("*") if each.is_file()}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the shipped model as ``shapes``."""
    folder = tmp_path_factory.mktemp("triton") / "repository"
    write_repository(shipped_model(), folder, "shapes", ONE_THREAD)
    return folder


@pytest.fixture(scope="module")
def replica(repository: Path) -> Iterator[Replica]:
    opened = Replica(repository / "shapes")
    yield opened
    opened.finalize()


# ------------------------------------------------------------------------------ what is written


def test_a_model_is_its_configuration_its_file_and_the_bundle(repository: Path) -> None:
    bundle = shipped_model()
    listed = {"manifest.json", *Bundle(bundle).manifest.files}
    assert files(repository) == {
        "shapes/config.pbtxt", "shapes/1/model.py",
        *(f"shapes/1/model.visolo/{name}" for name in listed),
    }  # fmt: skip
    for name in listed:
        copied = repository / "shapes/1/model.visolo" / name
        assert copied.read_bytes() == (bundle / name).read_bytes()


def test_only_the_model_file_knows_tritons_module(repository: Path) -> None:
    tree = ast.parse((repository / "shapes/1/model.py").read_text())
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    assert imported == {"triton_python_backend_utils"}
    room = Path(__file__).parents[2] / "runtime/visolo_runtime"
    mentions = [
        path.name for path in room.rglob("*.py")
        if "import triton_python_backend_utils" in path.read_text()
    ]  # fmt: skip
    assert mentions == ["repository.py"]  # which writes it


def test_the_configuration(repository: Path) -> None:
    config = parsed((repository / "shapes/config.pbtxt").read_text())
    assert (config["name"], config["backend"], config["max_batch_size"]) == ("shapes", "python", 1)
    for specs, tensors in ((REQUEST_TENSORS, config["input"]), (ANSWER_TENSORS, config["output"])):
        stated = [(each["name"], each["data_type"], tuple(each["dims"])) for each in tensors]
        assert stated == [(spec.name, spec.data_type, spec.dims) for spec in specs]
    assert all(each["optional"] == "true" for each in config["input"])
    batching = config["sequence_batching"]
    assert batching["max_sequence_idle_microseconds"] == 60_000_000
    assert batching["oldest"] == {"max_candidate_sequences": 4}
    controls = {each["name"]: each["control"][0]["kind"] for each in batching["control_input"]}
    assert controls == {name: f"CONTROL_SEQUENCE_{name}" for name in ("START", "END")}
    assert config["instance_group"] == [{"count": 1, "kind": "KIND_CPU"}]
    parameters = {each["key"]: each["value"]["string_value"] for each in config["parameters"]}
    assert parameters == {
        "streams": "2", "backend": "onnxruntime", "precision": "", "device": "", "threads": "1",
    }  # fmt: skip


def test_the_page_names_every_tensor() -> None:
    page = (Path(__file__).parents[2] / "docs/triton.md").read_text()
    named = {
        name for line in page.splitlines() if line.startswith("| `")
        for name in re.findall("`([a-z_]+)`", line.split("|")[1])
    }  # fmt: skip
    assert {spec.name for spec in (*REQUEST_TENSORS, *ANSWER_TENSORS)} <= named


@pytest.mark.parametrize(
    ("options", "batch", "together", "group"),
    [
        (ReplicaOptions(streams=8), 4, 4, {"count": 1, "kind": "KIND_CPU"}),
        (ReplicaOptions(streams=2, device="cpu"), 4, 2, {"count": 1, "kind": "KIND_CPU"}),
        (ReplicaOptions(instances=3, device="cuda"), 1, 1, {"count": 3, "kind": "KIND_GPU"}),
        (ReplicaOptions(device="cuda:2"), 1, 1, {"count": 1, "kind": "KIND_GPU", "gpus": [2]}),
    ],
)
def test_batches_and_devices(
    options: ReplicaOptions, batch: int, together: int, group: dict[str, Any]
) -> None:
    config = parsed(config_text("model", batch, options))
    assert config["max_batch_size"] == together
    assert config["instance_group"] == [group]
    oldest = config["sequence_batching"]["oldest"]
    assert oldest["max_candidate_sequences"] == 2 * options.streams
    assert (oldest.get("max_queue_delay_microseconds", 0) > 0) == (together > 1)


def test_a_model_is_replaced_and_others_stay(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    write_repository(shipped_model(), repository, "one", ReplicaOptions())
    write_repository(shipped_model(), repository, "two", ReplicaOptions())
    before = files(repository / "two")
    write_repository(shipped_model(), repository, "one", ReplicaOptions(streams=3))
    assert 'string_value: "3"' in (repository / "one/config.pbtxt").read_text()
    assert files(repository / "two") == before
    assert {each.name for each in repository.iterdir()} == {"one", "two"}


def test_nothing_but_such_a_model_is_replaced(tmp_path: Path) -> None:
    other = tmp_path / "repository/resnet"
    (other / "1").mkdir(parents=True)
    (other / "config.pbtxt").write_text('backend: "onnxruntime"')
    (other / "1/model.py").write_text("class TritonPythonModel: ...")
    with pytest.raises(VisoloError, match="not such a model's: choose another --name"):
        write_repository(shipped_model(), tmp_path / "repository", "resnet")
    assert (other / "1/model.py").read_text() == "class TritonPythonModel: ..."


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def fails(folder: Path) -> None:
        folder.mkdir()
        raise VisoloError("the disk is full")

    with pytest.raises(VisoloError, match="the disk is full"):
        write_model(fails, tmp_path / "repository", "model", ReplicaOptions())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"backend": "torch"}, "runs no bundle: choose one of auto, "),
        ({"backend": "tensorrt"}, "has no graphs for tensorrt, only onnx fp32"),
        ({"precision": "fp16"}, "has no graphs for auto fp16, only onnx fp32"),
    ],
)
def test_what_no_machine_could_run(tmp_path: Path, options: dict[str, Any], says: str) -> None:
    with pytest.raises(VisoloError, match=says):
        write_repository(shipped_model(), tmp_path / "r", "model", ReplicaOptions(**options))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("options", [{"streams": 0}, {"instances": 0}, {"idle_s": 0.0}])
def test_impossible_options(options: dict[str, Any]) -> None:
    with pytest.raises(VisoloError, match="must be"):
        ReplicaOptions(**options)


# --------------------------------------------------------------------------- the command line


def test_the_command(tmp_path: Path, visolo: Visolo) -> None:
    repository = tmp_path / "repository"
    done = visolo("triton", "shapes", "-o", repository, "--streams", 5, "--idle", 2.5).succeeded()
    assert f"--model-repository={repository}" in done.out
    config = parsed((repository / "shapes/config.pbtxt").read_text())
    assert config["sequence_batching"]["max_sequence_idle_microseconds"] == 2_500_000
    report = visolo(
        "triton", shipped_model("everyday"), "-o", repository, "--name", "cars", "--json"
    ).succeeded().json()  # fmt: skip
    assert report == {"repository": str(repository), "model": "cars", "streams": 8}
    assert {each.name for each in repository.iterdir()} == {"shapes", "cars"}


def test_what_the_command_refuses(tmp_path: Path, visolo: Visolo) -> None:
    out = tmp_path / "repository"
    weights = shipped_weights()
    visolo("triton", weights, "-o", out).refused("visolo export", "--format triton")
    visolo("triton", tmp_path / "none.visolo", "-o", out).refused("is not a bundle")
    visolo("triton", "shapes", "-o", out, "--name", "../up").refused("cannot be a model's name")
    visolo("triton", "shapes", "-o", out / "a/b").refused("cannot write")
    damaged = tmp_path / "damaged.visolo"
    shutil.copytree(shipped_model(), damaged)
    with (damaged / "mask.onnx").open("ab") as file:
        file.write(b"more")
    visolo("triton", damaged, "-o", out).refused("mask.onnx", "checksum")
    assert not out.exists()


# ------------------------------------------------------------------------ as Triton calls it


def ask(sequence: int | str, at: int, **more: Any) -> InferenceRequest:
    return InferenceRequest(sequence, at == 0, tensors=frame_of(FRAMES[at]), **more)


def test_tensors_say_what_the_runtime_finds(replica: Replica) -> None:
    model = load(shipped_model(), "onnxruntime", threads=1)
    session, seen = model.session(record=False), 0
    for at, frame in enumerate(FRAMES):
        expected = session.step(frame)
        given = replica.tensors(ask("camera 1", at))
        assert list(given) == [spec.name for spec in ANSWER_TENSORS]
        assert {len(each) for each in given.values()} == {1}  # the batch
        values = {name: each[0] for name, each in given.items()}
        assert values["frame_number"].tolist() == [at]
        assert values["track_id"].tolist() == expected.tracker_id.tolist()
        assert values["class_id"].tolist() == expected.class_id.tolist()
        assert [each.decode() for each in values["label"]] == [each.label for each in expected]
        tracks = [each.track_label for each in expected]
        assert [each.decode() for each in values["track_label"]] == tracks
        np.testing.assert_array_equal(values["score"], expected.confidence)
        np.testing.assert_array_equal(values["track_score"], expected.track_confidence)
        np.testing.assert_array_equal(values["box"], expected.xyxy)
        size = values["mask_size"].tolist()
        masks = [decode_rle({"size": size, "counts": each.decode()}) for each in values["mask"]]
        np.testing.assert_array_equal(np.array(masks), expected.masks)
        seen += len(expected)
    assert seen > 3  # or nothing is tested


def test_tensors_have_the_types_that_the_configuration_states(replica: Replica) -> None:
    types = {
        "TYPE_STRING": np.object_, "TYPE_INT64": np.int64, "TYPE_INT32": np.int32,
        "TYPE_FP32": np.float32,
    }  # fmt: skip
    for end in (False, True):  # also where there is no frame
        tensors = {} if end else frame_of(FRAMES[0])
        given = replica.tensors(InferenceRequest(5, not end, end, tensors))
        for spec in ANSWER_TENSORS:
            values = given[spec.name]
            assert values.dtype == types[spec.data_type], spec.name
            assert values.ndim == 1 + len(spec.dims)
            for length, stated in zip(values.shape[1:], spec.dims, strict=True):
                assert stated in (-1, length), spec.name


def test_masks_are_computed_only_if_they_are_asked_for(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("visolo_core.instances.resize_masks", lambda *_: 1 / 0)
    given = replica.tensors(ask("quick", 0, outputs=("track_id", "score")))
    assert list(given) == ["track_id", "score"]
    with pytest.raises(ZeroDivisionError):
        replica.tensors(ask("quick", 1, outputs=("box",)))
    replica.tensors(InferenceRequest("quick", end=True, outputs=("track_id",)))


def test_refusals_are_errors_of_their_own_requests(replica: Replica) -> None:
    assert "has no session here" in replica.refusal(ask("late", 1))
    unknown = text_of("settings", b'{"conf": 0.5}')
    first = InferenceRequest("odd", True, tensors={**frame_of(FRAMES[0]), **unknown})
    assert replica.refusal(first).startswith("setting 'conf' is unknown")
    replica.tensors(ask("odd", 0))
    assert "JPEG" in replica.refusal(InferenceRequest("odd", tensors=text_of("jpeg", b"no")))
    assert replica.tensors(ask("odd", 1))["frame_number"].item() == 1
    replica.tensors(InferenceRequest("odd", end=True))
    not_utf8 = text_of("settings", b"\xff\xfe")
    assert "json" in replica.refusal(InferenceRequest("odd", True, tensors=not_utf8))


def test_a_model_that_was_loaded_again_knows_no_sequence(repository: Path) -> None:
    first = Replica(repository / "shapes")
    session = first.tensors(ask("camera", 0))["session"].item()
    second = Replica(repository / "shapes")  # another process in Triton
    assert "has no session here" in second.refusal(ask("camera", 1))
    anew = second.tensors(ask("camera", 0))
    assert anew["session"].item() != session
    assert first.tensors(ask("camera", 1))["frame_number"].item() == 1
    first.finalize()
    second.finalize()


def test_a_batch_of_several_sequences(tmp_path: Path, batched_bundle: Path) -> None:
    options = ReplicaOptions(streams=3, backend="onnxruntime", threads=1)
    write_repository(batched_bundle, tmp_path, "batched", options)
    replica = Replica(tmp_path / "batched")
    for at in range(2):
        responses = replica.execute(*(ask(f"camera {each}", at) for each in range(3)))
        numbers = [
            {each.name(): each.as_numpy() for each in response.output_tensors}
            for response in responses
        ]
        assert [each["frame_number"].item() for each in numbers] == [at] * 3
        assert len({each["session"].item() for each in numbers}) == 3
    replica.finalize()


def change_config(folder: Path, old: str, new: str) -> None:
    config = folder / "config.pbtxt"
    assert old in config.read_text()
    config.write_text(config.read_text().replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"onnxruntime"', '"nonsense"', "backend 'nonsense' is unknown"),
        ('string_value: "2"', 'string_value: "many"', "parameter 'streams' in config.pbtxt"),
        ('string_value: "2"', 'string_value: "0"', "must be a number from 1 on, not '0'"),
        ('key: "threads"', 'key: "hands"', "parameter 'threads' in config.pbtxt"),
        ("microseconds: 60000000", "microseconds: 0", "some seconds before it is idle"),
    ],
)
def test_a_configuration_that_was_spoilt(tmp_path: Path, old: str, new: str, says: str) -> None:
    folder = write_repository(shipped_model(), tmp_path, "shapes", ONE_THREAD)
    change_config(folder, old, new)
    with pytest.raises(TritonModelException, match=says):
        Replica(folder)


def test_a_bundle_that_is_missing(tmp_path: Path) -> None:
    folder = write_repository(shipped_model(), tmp_path, "shapes", ONE_THREAD)
    shutil.rmtree(folder / "1/model.visolo")
    with pytest.raises(TritonModelException, match="there is no bundle"):
        Replica(folder)


def test_an_instance_on_a_gpu_runs_on_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which GPU that is, Triton says."""
    folder = write_repository(shipped_model(), tmp_path, "shapes", ReplicaOptions(device="cuda"))
    asked: list[str] = []

    def opened(*_: object, device: str, **__: object) -> None:
        asked.append(device)
        raise VisoloError("there is no GPU")

    monkeypatch.setattr("visolo_runtime.triton.python_backend.load", opened)
    with pytest.raises(TritonModelException, match="there is no GPU"):
        Replica(folder, "GPU", 1)
    assert asked == ["cuda:1"]
