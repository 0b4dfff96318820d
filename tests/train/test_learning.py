"""That a network learns: few clips by heart. Minutes; run with -m slow."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers import run_visolo
from visolo_train.synthetic_data import write_synthetic_data


@pytest.mark.slow
def test_twenty_clips_are_learnt_by_heart(tmp_path: Path) -> None:
    """AP50 over 0.9 on what was trained on; targets, losses and decoding fit together."""
    folder = tmp_path / "shapes"
    write_synthetic_data(folder, videos=20, seed=11, frames=3, size=(96, 160))
    settings = [
        "data.shapes.kind=annotated", f"data.shapes.annotations={folder / 'instances.json'}",
        "data.shapes.flip=false", "network.input_size=[96,160]", "network.grid=[12,20]",
        "schedule.steps=1000", "schedule.batch=4", "schedule.average=0.98",
        "schedule.precision=float32", "run.tensorboard=false",
    ]  # fmt: skip
    options = [part for setting in settings for part in ("--set", setting)]
    run_visolo("train", "lite_synth", "-o", tmp_path / "run", *options).succeeded()
    weights = tmp_path / "run" / "weights.safetensors"
    scored = run_visolo("eval", weights, "--data", folder / "instances.json", "--json").succeeded()
    assert scored.json()["AP50"] > 0.9, scored.json()
