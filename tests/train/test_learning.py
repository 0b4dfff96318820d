"""A network learns: a few clips by heart, and real data by shrunk recipes of the paper.

These take minutes; run them with ``make slow``.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import run_visolo
from outside import real_data
from visolo_train.data.synthetic_data import write_synthetic_data


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


SHRUNK = [
    "network.backbone_norm=batch", "network.input_size=[96,160]", "network.grid=[6,10]",
    "network.width=64", "network.mask_width=32", "network.groups=8", "start.frozen=[]",
    "schedule.steps=200", "schedule.batch=2", "schedule.drops=[150]", "schedule.clip_norm=1.0",
    "schedule.learning_rate=3e-4", "schedule.backbone_factor=1.0", "schedule.warm_up=10",
    "run.log_every=1", "run.save_every=1000", "run.workers=1",
]  # fmt: skip


def train_in_two_parts(recipe: str, folder: Path, settings: list[str]) -> list[float]:
    """Train, with Ctrl-C at step 100 and a resumption; the total loss of every step."""
    options = [part for setting in SHRUNK + settings for part in ("--set", setting)]
    command = [sys.executable, "-m", "visolo.cli", "train", recipe, "-o", str(folder)]
    losses = {}
    for stop_at in (100, None):
        with subprocess.Popen(
            [*command, "--resume", *options], stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stderr
            messages = []
            for line in process.stderr:
                messages.append(line)
                if match := re.match(r"step (\d+) of 200: total ([0-9.]+)", line):
                    losses[int(match[1])] = float(match[2])
                    if int(match[1]) == stop_at:
                        process.send_signal(signal.SIGINT)
        assert process.returncode == (130 if stop_at else 0), "".join(messages)
    assert sorted(losses) == list(range(1, 201)), "a step is missing"
    return [losses[step] for step in sorted(losses)]


@pytest.mark.slow
def test_real_data_by_the_papers_recipes(tmp_path: Path) -> None:
    """Images of COCO, then videos and mapped images, with a new classifier: the losses fall,
    training can be resumed, and the scores can be computed."""
    coco, videos = real_data("coco128"), real_data("real-vis")
    settings = [
        "start.backbone=", f"data.coco.images={coco / 'images'}",
        f"data.coco.annotations={coco / 'instances_train2017.json'}",
        "data.coco.short_sides=[120,128,136]",
    ]  # fmt: skip
    first = train_in_two_parts("coco_r50", tmp_path / "coco", settings)
    assert sum(first[-20:]) < 0.7 * sum(first[:20])
    weights = tmp_path / "coco" / "weights.safetensors"
    data = ("--data", coco / "instances_train2017.json", "--images", coco / "images")
    figures = run_visolo("eval", weights, *data, "--json").succeeded().json()
    assert 0 <= figures["AP"] <= 1

    mapped = tmp_path / "coco_ytvis2019.json"
    run_visolo("data", "coco-to-ytvis", data[1], "-o", mapped).succeeded()
    settings = [
        f"start.weights={weights}", f"data.coco.annotations={mapped}",
        f"data.coco.images={coco / 'images'}", "data.coco.short_sides=[120,128,136]",
        f"data.videos.annotations={videos / 'instances.json'}",
        f"data.videos.images={videos / 'JPEGImages'}", "data.videos.short_sides=[96,112]",
    ]  # fmt: skip
    second = train_in_two_parts("ytvis2019_r50", tmp_path / "ytvis", settings)
    assert sum(second[-20:]) < 0.8 * sum(second[:20])
    weights = tmp_path / "ytvis" / "weights.safetensors"
    data_set = videos / "instances.json"
    figures = run_visolo("eval", weights, "--data", data_set, "--json").succeeded().json()
    assert 0 <= figures["AP"] <= 1
    print(f"coco {first[0]:.2f} to {first[-1]:.2f}, videos {second[0]:.2f} to {second[-1]:.2f}")
    print({name: figures[name] for name in ("AP", "AP50")})
