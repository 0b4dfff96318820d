"""Weights that become a model for NVIDIA Triton in one command."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from helpers import Outcome
from triton_standin import InferenceRequest, Replica, frame_of
from visolo_runtime.bundle import Bundle
from visolo_runtime.models.shipped import shipped_model, shipped_weights
from visolo_runtime.video.sample_clip import sample_frames

Visolo = Callable[..., Outcome]


def test_weights_become_a_model_that_runs(
    tmp_path: Path, lite_weights: Path, visolo: Visolo
) -> None:
    repository = tmp_path / "repository"
    done = visolo("export", lite_weights, "--format", "triton", "-o", repository, "--json")
    folder = repository / "lite"
    assert done.succeeded().json()["output"] == str(folder)
    graphs = Bundle(folder / "1/model.visolo").manifest.graphs
    assert [(each.format, each.precision) for each in graphs] == [("onnx", "fp32")]
    replica, (frame,) = Replica(folder), sample_frames(1, 96, 160)
    given = replica.tensors(InferenceRequest("camera", True, True, frame_of(frame)))
    assert given["frame_number"].item() == 0
    assert given["track_id"].size > 0
    replica.finalize()


def test_what_is_refused_before_anything_is_exported(tmp_path: Path, visolo: Visolo) -> None:
    out = tmp_path / "repository"
    spaced = tmp_path / "my model.safetensors"
    shutil.copy(shipped_weights(), spaced)
    for_triton = ("--format", "triton", "-o", out)
    visolo("export", spaced, *for_triton).refused("cannot be a model's name")
    bundle = shipped_model()
    visolo("export", bundle, *for_triton).refused(f"visolo triton {bundle} -o {out}")
    visolo("export", bundle, "-o", out).refused("is a bundle already")
    visolo("export", spaced, "--format", "triton,nonsense", "-o", out).refused("'nonsense'")
    assert not out.exists()
