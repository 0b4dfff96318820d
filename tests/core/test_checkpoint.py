"""Reading and writing weights, and what is refused."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers import TINY, GoldenSet, Outcome
from untrained import untrained
from visolo_core.categories import unnamed
from visolo_core.checkpoint_header import CheckpointHeader, read_header
from visolo_core.errors import VisoloError
from visolo_core.nn.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from visolo_core.nn.official_checkpoint import load_official
from visolo_core.nn.tensor_files import check_state, load_tensors

Visolo = Callable[..., Outcome]


def tiny() -> Checkpoint:
    return Checkpoint(CheckpointHeader(TINY, unnamed(3)), untrained(TINY).state_dict())


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_saved_weights_load_unchanged(tmp_path: Path, suffix: str) -> None:
    path, checkpoint = tmp_path / f"weights{suffix}", tiny()
    save_checkpoint(path, checkpoint)
    loaded = load_checkpoint(path)
    assert loaded.header == checkpoint.header
    assert all(torch.equal(loaded.state[name], checkpoint.state[name]) for name in checkpoint.state)
    loaded.build()
    assert [path.name for path in tmp_path.iterdir()] == [path.name]


def test_the_header_is_read_without_the_weights(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_checkpoint(path, tiny())
    assert read_header(path) == tiny().header


def test_writing_where_nothing_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(VisoloError, match="cannot write"):
        save_checkpoint(tmp_path / "missing" / "weights.pt", tiny())
    with pytest.raises(VisoloError, match="must end in"):
        save_checkpoint(tmp_path / "weights.bin", tiny())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("keep", [0, 5, 200, 5000, -100])
def test_truncated_weights(tmp_path: Path, suffix: str, keep: int) -> None:
    path = tmp_path / f"weights{suffix}"
    save_checkpoint(path, tiny())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(VisoloError, match=path.name):
        load_checkpoint(path)


def test_a_checkpoint_of_a_later_version(tmp_path: Path) -> None:
    header = tiny().header.to_json().replace('"format_version": 1', '"format_version": 2')
    torch.save({"visolo": header, "model": {}}, tmp_path / "weights.pt")
    with pytest.raises(VisoloError, match="update visolo"):
        load_checkpoint(tmp_path / "weights.pt")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"width": 16', '"width": NaN'),
        ('"width": 16', '"width": 1e999'),
        ('"width": 16', '"width": 16.0'),
        ('"width": 16', '"width": 16000000'),
        ('"width": 16', '"width": true'),
        ('"grid": [4, 6]', '"grid": [4]'),
        ('"resnet18"', "18"),
        ('"class 1"', "1"),
        ('"ids": [1, 2, 3]', '"ids": [1, 2, 3.5]'),
        ('"format_version": 1', '"format_version": NaN'),
    ],
)
def test_values_of_a_header_have_their_types(old: str, new: str) -> None:
    text = tiny().header.to_json()
    assert old in text
    with pytest.raises(VisoloError, match="damaged checkpoint header"):
        CheckpointHeader.from_json(text.replace(old, new), Path("weights.pt"))


@given(st.binary(max_size=60), st.integers(0, 2**64 - 1))
def test_any_bytes_are_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, length: int
) -> None:
    path = tmp_path_factory.mktemp("any") / "weights.safetensors"
    for start in (b"", len(content).to_bytes(8, "little"), length.to_bytes(8, "little")):
        path.write_bytes(start + content)
        with pytest.raises(VisoloError):
            read_header(path)


# ------------------------------------------------------------------ official checkpoints


@pytest.fixture(scope="module")
def official(official_checkpoint: Path) -> dict[str, Any]:
    return dict(torch.load(official_checkpoint, weights_only=True)["model"])


def test_an_official_checkpoint_just_loads(
    official_checkpoint: Path, small_golden: GoldenSet, tmp_path: Path, visolo: Visolo
) -> None:
    path = tmp_path / "weights.pt"
    outcome = visolo("convert", official_checkpoint, "-o", path, "--json").succeeded()
    assert outcome.json() == {
        "output": str(path),
        "classes": 40,
        "labels": "ytvis2019",
        "tensors": 333,
        "new_classifier": False,
    }
    checkpoint = load_checkpoint(path)
    golden = small_golden.weights()
    name = "mask_branch.refine3.skip_residual.conv1.weight"
    theirs = golden["model.Mask_branch.RefR3.ResSCF.conv1.weight"]
    assert torch.equal(checkpoint.state[name], torch.from_numpy(theirs))
    checkpoint.build()


def test_labels_can_be_named(official_checkpoint: Path, tmp_path: Path, visolo: Visolo) -> None:
    path = tmp_path / "weights.safetensors"
    visolo("convert", official_checkpoint, "-o", path, "--labels", "ytvis2021").succeeded()
    assert read_header(path).labels.name == "ytvis2021"


def test_another_class_count_begins_the_classifier_alone_and_says_so(
    official: dict[str, Any], tmp_path: Path, visolo: Visolo
) -> None:
    source, path = tmp_path / "coco.pth", tmp_path / "weights.safetensors"
    weight, bias = (f"model.Category_branch_post.pred.{leaf}" for leaf in ("weight", "bias"))
    torch.save(
        {"model": official | {weight: torch.ones(80, 256, 3, 3), bias: torch.ones(80)}}, source
    )
    visolo("convert", source, "-o", path, "--labels", "ovis").refused("80 classes", "25")
    outcome = visolo(
        "convert", source, "-o", path, "--labels", "ovis", "--new-classifier"
    ).succeeded()
    assert "classifier (80 classes) was replaced by a new one for 25 classes" in outcome.err
    checkpoint = load_checkpoint(path)
    assert checkpoint.header.config.classes == 25
    assert checkpoint.state["category_branch.classifier.weight"].shape == (25, 256, 3, 3)
    changed = [
        name
        for name, tensor in checkpoint.state.items()
        if name.startswith("memory")
        and not torch.equal(tensor, official["model.Memory_module.conv1" + _leaf(name)])
    ]
    assert changed == []


def _leaf(name: str) -> str:
    return name.removeprefix("memory.value").replace(".conv", "")


def test_wrong_keys_are_listed_by_name(
    official: dict[str, Any], tmp_path: Path, visolo: Visolo
) -> None:
    weights = dict(official)
    del weights["model.Memory_module.conv1.bias"]
    weights["model.Extra.weight"] = torch.ones(1)
    weights["model.Mask_branch.pred.bias"] = torch.ones(3)
    weights["model.Mask_branch.pred.weight"] = torch.full((256, 256, 1, 1), torch.nan)
    source = tmp_path / "official.pth"
    torch.save({"model": weights}, source)
    visolo("convert", source, "-o", tmp_path / "weights.pt").refused(
        "1 missing: model.Memory_module.conv1.bias",
        "1 unknown: model.Extra.weight",
        "1 misshaped: model.Mask_branch.pred.bias (3 instead of 256)",
        "1 with NaN or infinity: model.Mask_branch.pred.weight",
    )
    assert not (tmp_path / "weights.pt").exists()


def test_wrong_class_count(official_checkpoint: Path, tmp_path: Path, visolo: Visolo) -> None:
    visolo(
        "convert", official_checkpoint, "-o", tmp_path / "weights.pt", "--labels", "coco"
    ).refused("40 classes", "80")
    assert list(tmp_path.iterdir()) == []


class _Evil:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch pwned",)


@pytest.mark.parametrize("command", ["convert", "export"])
def test_code_in_a_checkpoint_never_runs(
    tmp_path: Path, visolo: Visolo, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for saved in ("zip", "pickle"):
        evil = tmp_path / f"{saved}.pth"
        if saved == "zip":
            torch.save({"model": _Evil()}, evil)
        else:
            evil.write_bytes(pickle.dumps({"model": _Evil()}))
        visolo(command, evil, "-o", tmp_path / "out.pt").refused("holds more than tensors")
    assert not (tmp_path / "pwned").exists()
    assert not (tmp_path / "out.pt").exists()


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "damaged"),
        (b"PK\x03\x04 not really", "damaged"),
        (b"hello", "is not a checkpoint"),
    ],
)
def test_files_that_are_not_checkpoints(
    tmp_path: Path, visolo: Visolo, content: bytes, word: str
) -> None:
    path = tmp_path / "official.pth"
    path.write_bytes(content)
    visolo("convert", path, "-o", tmp_path / "weights.pt").refused(word)
    visolo("convert", tmp_path / "none.pth", "-o", tmp_path / "weights.pt").refused("no such file")


def test_a_truncated_official_checkpoint(
    official_checkpoint: Path, tmp_path: Path, visolo: Visolo
) -> None:
    path = tmp_path / "official.pth"
    with official_checkpoint.open("rb") as whole:
        path.write_bytes(whole.read(1_000_000))
    visolo("convert", path, "-o", tmp_path / "weights.pt").refused("damaged or cut short")


@pytest.mark.parametrize(
    "saved", [[1, 2], {"a": 1}, {"model": {}}, {"model": 3}, {"model": {1: 2}}]
)
def test_checkpoints_without_a_network(tmp_path: Path, visolo: Visolo, saved: Any) -> None:
    path = tmp_path / "official.pth"
    torch.save(saved, path)
    visolo("convert", path, "-o", tmp_path / "weights.pt").refused("official.pth")


def test_our_weights_where_an_official_checkpoint_is_wanted(
    lite_weights: Path, tmp_path: Path, visolo: Visolo
) -> None:
    out = tmp_path / "weights.pt"
    visolo("convert", lite_weights, "-o", out).refused("already")
    save_checkpoint(tmp_path / "ours.pt", tiny())
    visolo("convert", tmp_path / "ours.pt", "-o", out).refused("already")
    assert not out.exists()


def test_an_official_checkpoint_where_ours_is_wanted(
    official_checkpoint: Path, tmp_path: Path, visolo: Visolo
) -> None:
    visolo("export", official_checkpoint, "-o", tmp_path / "m.visolo").refused("visolo convert")


def test_of_two_sets_of_weights_one_is_chosen_by_an_option(
    official: dict[str, Any], tmp_path: Path, visolo: Visolo
) -> None:
    path, out = tmp_path / "two.pth", tmp_path / "weights.safetensors"
    name = "model.Memory_module.conv1.weight"
    average = {name: tensor.half() for name, tensor in official.items()}
    average[name] = torch.ones_like(average[name])
    torch.save({"model": official, "model_ema": average}, path)
    visolo("convert", path, "-o", out).refused("2 sets", "--weights model or --weights ema")
    visolo("convert", path, "-o", out, "--weights", "mean").refused("has no weights 'mean'")
    assert not out.exists()
    visolo("convert", path, "-o", out, "--weights", "ema").succeeded()
    state = load_checkpoint(out).state
    assert bool((state["memory.value.conv.weight"] == 1).all())
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}


def test_official_weights_as_safetensors(
    official: dict[str, Any], tmp_path: Path, visolo: Visolo
) -> None:
    from safetensors.torch import save_file

    path, out = tmp_path / "official.safetensors", tmp_path / "weights.safetensors"
    named = {name for name in official if name.startswith("model.")}
    save_file({name.removeprefix("model."): official[name] for name in named}, path)
    visolo("export", path, "-o", tmp_path / "m.visolo").refused("visolo convert")
    visolo("convert", path, "-o", out).succeeded()
    assert len(load_checkpoint(out).state) == 333


def test_tensors_that_claim_more_than_the_file_holds(tmp_path: Path) -> None:
    path = tmp_path / "official.pth"
    name = "model.Category_branch_post.pred.weight"
    torch.save({"model": {name: torch.zeros(1).expand(2**33, 256, 3, 3)}}, path)
    with pytest.raises(VisoloError, match="no usable classifier"):
        load_official(path, None)
    endless, sparse = torch.zeros(1).expand(2**40), torch.ones(4).to_sparse()
    state = {"a": endless, "b": sparse, "c": torch.zeros(3), "d": 7}
    with pytest.raises(VisoloError) as refused:
        check_state(state, {"a": (2**40,), "b": (4,), "c": (3,), "d": ()}, path)
    assert "3 misshaped: a (a special tensor of 1099511627776 instead of" in str(refused.value)


@pytest.mark.parametrize("is_zip", [True, False])
def test_storages_that_claim_more_than_the_file_has(tmp_path: Path, is_zip: bool) -> None:
    """PyTorch would read beyond the record, or allocate what is claimed."""
    path = tmp_path / "official.pth"
    state = {"a.b": torch.arange(777, dtype=torch.float32), "c.d": torch.ones(3).half()}
    torch.save({"model": state}, path, _use_new_zipfile_serialization=is_zip)
    assert torch.equal(load_tensors(path)["model"]["a.b"], state["a.b"])
    count, more = (b"M" + number.to_bytes(2, "little") for number in (777, 9999))
    if is_zip:
        with zipfile.ZipFile(path) as archive:
            records = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, record in records.items():
                archive.writestr(name, record.replace(count, more))
    else:
        path.write_bytes(path.read_bytes().replace(count, more))
    with pytest.raises(VisoloError, match="damaged") as refused:
        load_tensors(path)
    assert "a tensor claims 39996 bytes, where the file has" in str(refused.value.__cause__)
