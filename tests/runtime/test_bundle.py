"""What is checked before a bundle is trusted."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers import Outcome
from visolo_core.errors import VisoloError
from visolo_runtime.bundle import Bundle
from visolo_runtime.session.loading import load

Visolo = Callable[..., Outcome]


@pytest.fixture
def bundle(lite_bundle: Path, tmp_path: Path) -> Path:
    """A copy that may be spoilt."""
    return Path(shutil.copytree(lite_bundle, tmp_path / "model.visolo"))


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    from PIL import Image

    folder = tmp_path / "frames"
    folder.mkdir()
    Image.new("RGB", (64, 64)).save(folder / "0.png")
    return folder


def edit(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def test_what_a_manifest_says(lite_bundle: Path, visolo: Visolo) -> None:
    manifest = visolo("info", lite_bundle, "--json").succeeded().json()
    assert manifest["kind"] == "bundle"
    assert manifest["format_version"] == 2
    assert manifest["model"]["input_size"] == [96, 160]
    assert manifest["labels"]["name"] == "shapes"
    assert manifest["slots"] == 9
    assert [tensor["name"] for tensor in manifest["contract"]["frame"]["inputs"]] == [
        "image", "memory_key", "memory_value", "memory_valid", "recent_key", "recent_valid",
        "score_threshold",
    ]  # fmt: skip
    assert set(manifest["files"]) == {
        "frame.onnx", "mask.onnx", "decode.onnx", "memory.onnx", "resize.onnx", "resize_nv12.onnx",
    }  # fmt: skip
    assert all(len(entry["sha256"]) == 64 for entry in manifest["files"].values())
    assert "torch" in manifest["producer"]


def test_info_for_people(lite_bundle: Path, lite_weights: Path, visolo: Visolo) -> None:
    assert "frame.onnx" in visolo("info", lite_bundle).succeeded().out
    assert "resnet18" in visolo("info", lite_weights).succeeded().out


def test_a_changed_file(bundle: Path, frames: Path, visolo: Visolo) -> None:
    with (bundle / "frame.onnx").open("r+b") as file:
        file.seek(1000)
        file.write(b"spoilt")
    for command in (("run", bundle, frames), ("info", bundle)):
        visolo(*command).refused("frame.onnx", "checksum", "export or copy it again")


def test_a_changed_hash(bundle: Path, frames: Path, visolo: Visolo) -> None:
    edit(bundle, lambda manifest: manifest["files"]["memory.onnx"].update(sha256="0" * 64))
    visolo("run", bundle, frames).refused("memory.onnx", "checksum")


def test_a_missing_file(bundle: Path, frames: Path, visolo: Visolo) -> None:
    (bundle / "decode.onnx").unlink()
    visolo("run", bundle, frames).refused("lacks 'decode.onnx'")


@pytest.mark.parametrize("escape", ["../outside.onnx", "/etc/passwd", "a/../../b.onnx"])
@pytest.mark.parametrize("place", ["graphs", "files"])
def test_a_path_that_leaves_the_bundle(
    bundle: Path, frames: Path, visolo: Visolo, escape: str, place: str
) -> None:
    def change(manifest: dict[str, Any]) -> None:
        entry = manifest["files"]["frame.onnx"]
        manifest["files"][escape] = entry
        if place == "graphs":
            manifest["graphs"][0]["files"]["frame"] = escape

    edit(bundle, change)
    visolo("run", bundle, frames).refused(escape)


def test_a_link_that_leaves_the_bundle(bundle: Path, tmp_path: Path) -> None:
    shutil.move(bundle / "frame.onnx", tmp_path / "frame.onnx")
    (bundle / "frame.onnx").symlink_to(tmp_path / "frame.onnx")
    with pytest.raises(VisoloError, match="leads out of"):
        Bundle(bundle)


def test_a_future_format(bundle: Path, frames: Path, visolo: Visolo) -> None:
    edit(bundle, lambda manifest: manifest.update(format_version=3, something_new={}))
    visolo("run", bundle, frames).refused("has format 3", "update visolo")


def test_an_older_format(bundle: Path, frames: Path, visolo: Visolo) -> None:
    """The graphs were others then; only the weights can be exported again."""
    edit(bundle, lambda manifest: manifest.update(format_version=1))
    visolo("run", bundle, frames).refused("has format 1", f"visolo export WEIGHTS -o {bundle}")


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.pop("labels"),
        lambda m: m.update(slots="many"),
        lambda m: m.update(surprise=1),
        lambda m: m["labels"].update(ids=[1, 2], names=["a", "b"]),
        lambda m: m["model"].update(width=100),
        lambda m: m["contract"]["frame"]["inputs"][0].update(name="picture"),
        lambda m: m["graphs"][0]["files"].pop("memory"),
        lambda m: m["files"].pop("memory.onnx"),
        lambda m: m["inference"].update(memory_slots=10),
        lambda m: m.update(format_version=None),
        lambda m: m.update(batch=2),
    ],
)
def test_an_inconsistent_manifest(
    bundle: Path, frames: Path, visolo: Visolo, change: Callable[[dict[str, Any]], object]
) -> None:
    edit(bundle, change)
    visolo("run", bundle, frames).refused("model.visolo")


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "\xff\xfe", "[" * 100_000])
def test_a_file_that_is_not_a_manifest(bundle: Path, text: str) -> None:
    (bundle / "manifest.json").write_text(text, encoding="latin-1")
    with pytest.raises(VisoloError, match="manifest"):
        Bundle(bundle)


def test_numbers_of_a_manifest_are_finite_and_a_byte_order_mark_is_read(bundle: Path) -> None:
    path = bundle / "manifest.json"
    text = path.read_text()
    path.write_text(text, encoding="utf-8-sig")
    Bundle(bundle)
    for number in ("NaN", "Infinity", "1e999"):
        path.write_text(text.replace('"nms_sigma": 2.0', f'"nms_sigma": {number}'))
        with pytest.raises(VisoloError, match=r"inference\.nms_sigma is (NaN|infinite)"):
            Bundle(bundle)


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a json document."""
    if isinstance(value, dict):
        return [path, *(p for key, each in value.items() for p in _paths(each, (*path, key)))]
    if isinstance(value, list):
        return [path, *(p for at, each in enumerate(value) for p in _paths(each, (*path, at)))]
    return [path]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(
    choice=st.randoms(use_true_random=False),
    value=st.none() | st.integers() | st.floats() | st.text(max_size=5) | st.just([]) | st.just({}),
)
def test_any_change_of_a_manifest_is_read_or_refused(
    lite_bundle: Path, tmp_path: Path, choice: Random, value: Any
) -> None:
    manifest = json.loads((lite_bundle / "manifest.json").read_text())
    *parents, last = choice.choice([path for path in _paths(manifest) if path])
    place = manifest
    for key in parents:
        place = place[key]
    place[last] = value
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with contextlib.suppress(VisoloError):
        Bundle(tmp_path)


def test_a_file_that_is_not_a_graph(bundle: Path) -> None:
    import hashlib

    (bundle / "decode.onnx").write_bytes(b"not a graph")
    digest = hashlib.sha256(b"not a graph").hexdigest()
    edit(bundle, lambda m: m["files"]["decode.onnx"].update(sha256=digest, size=11))
    with pytest.raises(VisoloError, match=r"cannot load .*decode\.onnx"):
        load(bundle)


def test_a_graph_with_other_tensors(bundle: Path) -> None:
    edit(bundle, lambda m: m["graphs"][0]["files"].update(memory="decode.onnx"))
    with pytest.raises(VisoloError, match="tensor contract"):
        load(bundle)


@pytest.mark.parametrize(
    ("model", "backend", "word"),
    [
        ("{bundle}", "torch", "runs weights"),
        ("{bundle}", "tensorflow", "unknown"),
        ("{weights}", "onnxruntime", "visolo export"),
        ("{folder}", "auto", "is not a bundle"),
        ("{folder}/nothing", "auto", "there is no model"),
        ("{bundle}/manifest.json", "auto", "neither a bundle nor weights"),
    ],
)
def test_models_and_backends_that_do_not_go_together(
    lite_bundle: Path, lite_weights: Path, frames: Path, visolo: Visolo,
    model: str, backend: str, word: str,
) -> None:  # fmt: skip
    path = model.format(bundle=lite_bundle, weights=lite_weights, folder=frames)
    visolo("run", path, frames, "--backend", backend).refused(word)
