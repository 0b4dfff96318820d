"""``visolo verify`` passes a bundle that computes what its reference does, and fails others."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from PIL import Image

from helpers import Array, Outcome
from visolo_core.masks import encode_rle
from visolo_core.nn.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from visolo_core.results import Track
from visolo_export.comparison import (
    EDGE_PIXELS,
    TensorError,
    compare_tracks,
    edge_of,
    mask_agreement,
    mask_iou,
)
from visolo_runtime.bundle import Bundle
from visolo_runtime.video.sample_clip import sample_frames

Visolo = Callable[..., Outcome]


@pytest.fixture
def bundle(lite_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(lite_bundle, tmp_path / "model.visolo"))


def test_a_bundle_equals_its_weights(bundle: Path, lite_weights: Path, visolo: Visolo) -> None:
    command = ("verify", bundle, "--reference", lite_weights, "--record", "--json")
    report = visolo(*command).succeeded().json()
    assert report["passed"] is True
    assert report["failures"] == []
    assert report["frames"] == 12
    assert set(report["tensors"]) == {"frame", "mask", "decode", "memory"}
    assert report["tensors"]["frame"]["kernels"]["absolute"] < 2e-3
    assert report["tracks"]["reference_tracks"] > 3  # otherwise the clip proves nothing
    assert report["tracks"]["min_mask_iou"] >= 0.999
    parity = Bundle(bundle).manifest.parity
    assert parity is not None
    assert parity.passed
    assert parity.source == "generated clip"
    assert (parity.max_tensor_error["frame.kernels"] or 1) < 2e-3
    assert parity.reference == hashlib.sha256(lite_weights.read_bytes()).hexdigest()


def test_the_json_form(bundle: Path, lite_weights: Path, visolo: Visolo) -> None:
    """Scripts read it, so its keys and their nesting stay as they are."""
    command = ("verify", bundle, "--reference", lite_weights, "--frames", 2, "--json")
    report = visolo(*command).succeeded().json()
    assert set(report) == {
        "frames", "tolerance", "tensors", "decoded_mask_iou", "tracks", "drift", "failures",
        "passed", "source", "form", "reference",
    }  # fmt: skip
    assert set(report["tolerance"]) == {
        "tensor", "stage", "score", "sum", "mask_iou", "same_tracks",
    }  # fmt: skip
    assert set(report["tensors"]["memory"]["value"]) == {"absolute", "relative"}
    assert set(report["tracks"]) == {
        "reference_tracks", "candidate_tracks", "unmatched_reference", "unmatched_candidate",
        "max_score_difference", "min_mask_iou",
    }  # fmt: skip
    assert [len(errors) for errors in report["drift"].values()] == [2] * len(report["drift"])
    assert "first_divergence" not in report
    bisected = visolo(*command, "--bisect").succeeded().json()
    assert bisected["first_divergence"] is None


def test_a_manifest_is_left_alone_without_record(
    bundle: Path, lite_weights: Path, visolo: Visolo
) -> None:
    before = (bundle / "manifest.json").read_bytes()
    visolo("verify", bundle, "--reference", lite_weights, "--frames", 2).succeeded()
    assert (bundle / "manifest.json").read_bytes() == before


def test_recording_changes_nothing_but_parity(
    bundle: Path, lite_weights: Path, visolo: Visolo
) -> None:
    before = Bundle(bundle).manifest
    visolo("verify", bundle, "--reference", lite_weights, "--frames", 2, "--record").succeeded()
    after = Bundle(bundle).manifest
    assert after != before
    assert after.model_copy(update={"parity": before.parity}) == before


@pytest.mark.parametrize("reference", ["itself", "a link to it", "a copy"])
def test_a_bundle_proves_nothing_about_itself(
    bundle: Path, tmp_path: Path, reference: str, visolo: Visolo
) -> None:
    other = tmp_path / "other.visolo"
    if reference == "itself":
        other = bundle
    elif reference == "a link to it":
        other.symlink_to(bundle, target_is_directory=True)
    else:
        shutil.copytree(bundle, other)
    before = (bundle / "manifest.json").read_bytes()
    command = ("verify", bundle, "--reference", other, "--frames", 2)
    visolo(*command, "--record").refused("proves nothing", "--record")
    assert (bundle / "manifest.json").read_bytes() == before
    visolo(*command).succeeded()


def test_a_copy_with_another_format_is_the_same_bundle(
    bundle: Path, batched_bundle: Path, tmp_path: Path, visolo: Visolo
) -> None:
    """All its graphs are in the other bundle, which only has more of them."""
    part = Path(shutil.copytree(batched_bundle, tmp_path / "part.visolo"))
    manifest = json.loads((part / "manifest.json").read_text())
    manifest["graphs"] = [each for each in manifest["graphs"] if each["format"] == "onnx"]
    manifest["files"] = {
        name: entry for name, entry in manifest["files"].items() if name.endswith(".onnx")
    }
    (part / "manifest.json").write_text(json.dumps(manifest))
    visolo("verify", part, "--reference", batched_bundle, "--record").refused("proves nothing")
    visolo("verify", batched_bundle, "--reference", part, "--record").refused("proves nothing")


def test_recording_in_another_bundle_of_the_same_network(
    bundle: Path, batched_bundle: Path, tmp_path: Path, visolo: Visolo
) -> None:
    other = Path(shutil.copytree(batched_bundle, tmp_path / "batched.visolo"))
    visolo("verify", other, "--reference", bundle, "--frames", 2, "--record").succeeded()
    parity = Bundle(other).manifest.parity
    assert parity is not None
    assert parity.reference == ""  # no weights
    assert Bundle(bundle).manifest.parity is None


def test_a_bundle_that_cannot_be_written(
    bundle: Path, lite_weights: Path, visolo: Visolo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused before anything is run. Root may write anywhere, so the error is simulated."""

    def refuse(**_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("visolo_core.temporaries.tempfile.mkstemp", refuse)
    command = ("verify", bundle, "--reference", lite_weights, "--record")
    visolo(*command).refused("manifest.json", "read-only file system")


def test_two_bundles_need_no_exporter(bundle: Path) -> None:
    code = """
import sys
from visolo.cli import main
try:
    main(sys.argv[1:])
except SystemExit as stop:
    assert not stop.code, stop.code
heavy = {"torch", "onnx", "onnxscript", "safetensors"} & set(sys.modules)
assert not heavy, heavy
"""
    command = ("verify", bundle, "--reference", bundle, "--frames", "2")
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, command)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "passed" in done.stdout


@pytest.mark.parametrize(
    ("graph", "module"),
    [("frame", "backbone.layer2.0.conv1"), ("mask", "mask_branch.refine2.skip")],
)
def test_the_first_layer_that_differs(
    bundle: Path, lite_weights: Path, visolo: Visolo, graph: str, module: str
) -> None:
    spoil(bundle, graph, f"{module}.weight", nudge)
    command = ("verify", bundle, "--reference", lite_weights, "--frames", 3)
    outcome = visolo(*command, "--bisect", "--json")
    assert outcome.status == 1
    assert outcome.json()["first_divergence"]["module"].endswith(module)


def test_bisecting_needs_weights(bundle: Path, visolo: Visolo) -> None:
    visolo("verify", bundle, "--reference", bundle, "--bisect").refused("needs weights")


def test_the_table(bundle: Path, lite_weights: Path, visolo: Visolo) -> None:
    text = visolo("verify", bundle, "--reference", lite_weights, "--frames", 2).succeeded().out
    assert "frame.cell_score" in text
    assert "mask.mask_features" in text
    assert "passed" in text


def test_frames_of_a_folder(
    bundle: Path, lite_weights: Path, tmp_path: Path, visolo: Visolo
) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for number, frame in enumerate(sample_frames(3, 90, 50)):
        Image.fromarray(frame).save(folder / f"{number}.png")
    report = visolo(
        "verify", bundle, "--reference", lite_weights, "--source", folder, "--json"
    ).succeeded().json()  # fmt: skip
    assert (report["frames"], report["source"]) == (3, "frames")


def spoil(bundle: Path, graph: str, weight: str, change: Callable[[Array], Array]) -> None:
    """Change a weight of an exported graph, and the checksum with it."""
    path = bundle / f"{graph}.onnx"
    proto = onnx.load(path)
    spoilt = next(each for each in proto.graph.initializer if each.name.endswith(weight))
    array = change(onnx.numpy_helper.to_array(spoilt).copy())
    spoilt.CopyFrom(onnx.numpy_helper.from_array(array, spoilt.name))
    onnx.save(proto, path)
    content = path.read_bytes()
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["files"][path.name] = {
        "sha256": hashlib.sha256(content).hexdigest(), "size": len(content),
    }  # fmt: skip
    (bundle / "manifest.json").write_text(json.dumps(manifest))


def nudge(array: Array) -> Array:
    """Raise about fifty of its numbers by 0.5."""
    array.ravel()[:: max(1, array.size // 50)] += 0.5
    return array


@pytest.mark.parametrize(
    ("graph", "weight", "tensor"),
    [
        ("mask", "mask_branch.refine2.skip.weight", "mask.mask_features"),
        ("frame", "category_branch.classifier.weight", "frame.scores"),
        ("frame", "tracking_branch.query.1.conv.weight", "frame.query"),
        ("memory", "memory.value.conv.weight", "memory.value"),
    ],
)
def test_a_wrong_weight_is_detected_and_located(
    bundle: Path, lite_weights: Path, visolo: Visolo, graph: str, weight: str, tensor: str
) -> None:
    spoil(bundle, graph, weight, nudge)
    command = ("verify", bundle, "--reference", lite_weights, "--frames", 3)
    outcome = visolo(*command, "--record", "--json")
    assert outcome.status == 1
    report = outcome.json()
    assert report["passed"] is False
    assert any(failure.startswith(tensor) for failure in report["failures"])
    assert Bundle(bundle).manifest.parity.passed is False  # type: ignore[union-attr]


def test_an_output_that_is_not_a_number_fails_and_leaves_a_readable_bundle(
    bundle: Path, lite_weights: Path, visolo: Visolo
) -> None:
    spoil(bundle, "memory", "memory.value.conv.weight", lambda array: array * np.float32(np.nan))
    command = ("verify", bundle, "--reference", lite_weights, "--frames", 2)
    outcome = visolo(*command, "--record", "--json")
    assert outcome.status == 1
    assert outcome.json()["tensors"]["memory"]["value"]["absolute"] is None
    parity = Bundle(bundle).manifest.parity
    assert parity is not None
    assert parity.max_tensor_error["memory.value"] is None
    assert visolo(*command).status == 1


def test_other_weights(bundle: Path, lite_weights: Path, tmp_path: Path, visolo: Visolo) -> None:
    checkpoint = load_checkpoint(lite_weights)
    state = {name: tensor * 1.01 for name, tensor in checkpoint.state.items()}
    other = tmp_path / "other.safetensors"
    save_checkpoint(other, Checkpoint(checkpoint.header, state))
    outcome = visolo("verify", bundle, "--reference", other, "--frames", 2)
    assert outcome.status == 1
    assert "exported from other weights" in outcome.err
    assert "over tolerance" in outcome.out


def test_another_network(bundle: Path, paper_weights: Path, visolo: Visolo) -> None:
    visolo("verify", bundle, "--reference", paper_weights).refused("another network")


def test_a_bundle_or_reference_that_is_missing(
    bundle: Path, lite_weights: Path, tmp_path: Path, visolo: Visolo
) -> None:
    visolo("verify", tmp_path / "none", "--reference", lite_weights).refused("is not a bundle")
    visolo("verify", bundle, "--reference", tmp_path / "none.pt").refused("there is no model")
    (tmp_path / "empty").mkdir()
    visolo("verify", bundle, "--reference", lite_weights, "--source", tmp_path / "empty").refused(
        "no images"
    )


# ---------------------------------------------------------------------- comparing results


def track(number: int, label: int, score: float, *masks: int | None) -> Track:
    """A track whose mask covers the given number of ten columns in each frame; None if absent."""
    rles = []
    for columns in masks:
        mask = np.zeros((10, 10), bool)
        mask[:, : columns or 0] = True
        rles.append(None if columns is None else encode_rle(mask))
    return Track(number, label, score, tuple(rles))


def test_tracks_are_compared_as_sets() -> None:
    first = [track(1, 0, 0.5, 5, 5), track(2, 1, 0.6, None, 8)]
    second = [track(7, 1, 0.62, None, 8), track(9, 0, 0.5, 5, 4)]
    comparison = compare_tracks(first, second)
    assert comparison.same_tracks
    assert comparison.max_score_difference == pytest.approx(0.02)
    assert comparison.min_mask_iou == pytest.approx(0.8)


def test_twins_are_paired_by_their_masks() -> None:
    first = [track(1, 0, 0.5, 2), track(2, 0, 0.6, 9)]
    comparison = compare_tracks(first, [track(1, 0, 0.6, 9), track(2, 0, 0.5, 2)])
    assert comparison.same_tracks
    assert comparison.max_score_difference == 0
    assert comparison.min_mask_iou == 1


@pytest.mark.parametrize(
    "other",
    [
        [],
        [track(1, 1, 0.5, 5, 5)],
        [track(1, 0, 0.5, 5, None)],
        [track(1, 0, 0.5, 5, 5), track(2, 0, 0.5, 5, 5)],
    ],
)
def test_different_sets_of_tracks_are_distinguished(other: list[Track]) -> None:
    assert not compare_tracks([track(1, 0, 0.5, 5, 5)], other).same_tracks


def test_a_nan_is_never_within_tolerance() -> None:
    error = TensorError()
    error.add(np.array([1.0, 2.0]), np.array([1.0, np.nan]))
    assert error.absolute == float("inf")


def disc(radius: float) -> NDArray[np.bool_]:
    down, right = np.mgrid[:96, :128]
    inside: NDArray[np.bool_] = np.hypot(down - 40.2, right - 60.3) < radius
    return inside


def changed(mask: NDArray[np.bool_], pixels: NDArray[np.bool_], count: int) -> NDArray[np.bool_]:
    """The mask with the first ``count`` of these pixels flipped."""
    other = mask.copy()
    other.ravel()[np.flatnonzero(pixels)[:count]] ^= True
    return other


def test_edge_of_a_mask() -> None:
    mask = np.zeros((7, 8), bool)
    mask[2:5, 2:6] = True
    expected = np.zeros((7, 8), bool)
    expected[1:6, 1:7] = True
    expected[3, 3:5] = False  # their neighbours are all inside
    assert np.array_equal(edge_of(mask), expected)
    assert not edge_of(np.ones((3, 4), bool)).any()  # the frame's border is not an edge


@pytest.mark.parametrize("radius", [2.0, 9.0, 30.0])
def test_a_pixel_of_the_edge_is_noise_in_small_masks_too(radius: float) -> None:
    mask = disc(radius)
    other = changed(mask, edge_of(mask), 1)
    assert mask_iou(mask, other) < 1
    assert mask_agreement(mask, other) == 1
    assert mask_agreement(mask, mask) == 1


@pytest.mark.parametrize("radius", [9.0, 30.0])
def test_other_differences_are_not_noise(radius: float) -> None:
    mask = disc(radius)
    inner, outer = mask & ~edge_of(mask), ~mask & ~edge_of(mask)
    others = [
        changed(mask, inner, 1), changed(mask, outer, 1),
        changed(mask, edge_of(mask), EDGE_PIXELS + 1), np.roll(mask, 2, axis=1), ~mask,
        np.zeros_like(mask),
    ]  # fmt: skip
    for other in others:
        assert mask_agreement(mask, other) == mask_iou(mask, other) < 1


def test_in_a_tiny_mask_two_pixels_are_not_noise() -> None:
    mask = disc(2.0)
    assert mask_agreement(mask, changed(mask, edge_of(mask), 2)) < 0.95
