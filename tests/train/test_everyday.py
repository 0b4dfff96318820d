"""The recipes for real things, on a few small pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import run_visolo
from visolo_core.masks import encode_rle
from visolo_core.nn.checkpoint import load_checkpoint
from visolo_train.learning import start
from visolo_train.learning.data_sets import build_clips
from visolo_train.learning.recipe import read_recipe
from visolo_train.learning.team import Team
from visolo_train.learning.training import Training

STEPS = 4


@pytest.fixture
def settings(tmp_path: Path) -> list[str]:
    """The first recipe at a size for tests, on two photos of two things."""
    random = np.random.default_rng(5)
    (tmp_path / "backgrounds").mkdir()
    (tmp_path / "JPEGImages").mkdir()
    entries: list[dict[str, Any]] = []
    for number in (1, 2):
        picture = random.integers(0, 256, (60, 80, 3), dtype=np.uint8)
        mask = np.zeros((60, 80), bool)
        mask[10:50, 20:50] = True
        for folder in ("JPEGImages", "backgrounds"):
            Image.fromarray(picture).save(tmp_path / folder / f"{number}.png")
        rle = encode_rle(mask)
        entries.append(
            {"id": number, "image_id": number, "category_id": number, "segmentation": rle}
        )
    document = {
        "images": [
            {"id": n, "file_name": f"{n}.png", "height": 60, "width": 80, "exhaustive": False}
            for n in (1, 2)
        ],
        "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "bicycle"}],
        "annotations": entries,
    }
    (tmp_path / "instances.json").write_text(json.dumps(document))
    return [
        "start.backbone=", f"data.stills.annotations={tmp_path / 'instances.json'}",
        f"data.stills.images={tmp_path / 'JPEGImages'}", "data.stills.held_out=0",
        f"data.stills.backgrounds={tmp_path / 'backgrounds'}", "network.input_size=[64,96]",
        "network.grid=[4,6]", f"schedule.steps={STEPS}", "schedule.warm_up=1", "schedule.batch=2",
        "run.tensorboard=false",
    ]  # fmt: skip


def trained(
    settings: list[str], folder: Path, stop_after: int, resume: bool = False, workers: int = 0
) -> bool:
    recipe = read_recipe("everyday_base", [*settings, f"run.workers={workers}"])
    training = Training(recipe, folder, Team(), resume)
    return training.run(stop=lambda: training.trainer.step >= stop_after)


def test_a_resumed_training_ends_with_the_same_weights(settings: list[str], tmp_path: Path) -> None:
    """In bfloat16, whichever process composes the clips."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert trained(settings, tmp_path / "whole", STEPS)
        assert not trained(settings, tmp_path / "parts", 1, workers=1)
        assert not trained(settings, tmp_path / "parts", 3, resume=True)
        assert trained(settings, tmp_path / "parts", STEPS, resume=True)
    finally:
        torch.set_num_threads(threads)
    whole, parts = (
        load_checkpoint(tmp_path / name / "weights.safetensors") for name in ("whole", "parts")
    )
    assert whole.header.labels.name == "everyday"
    for name, tensor in whole.state.items():
        assert torch.equal(tensor, parts.state[name]), name


def test_frozen_blocks_stay_and_the_others_learn(settings: list[str], tmp_path: Path) -> None:
    recipe = read_recipe("everyday_base", [*settings, "run.workers=0"])
    training = Training(recipe, tmp_path / "run", Team(), resume=False)
    before = {name: each.clone() for name, each in training.trainer.model.state_dict().items()}
    training.run()
    changed = {
        name
        for name, each in training.trainer.model.state_dict().items()
        if name.startswith("backbone.") and not torch.equal(each, before[name])
    }
    way_down = {"backbone.lateral.weight", "backbone.lateral.bias"}
    assert way_down <= changed  # from nothing to something
    blocks = {int(name.split(".")[2]) for name in changed - way_down}
    assert blocks == set(range(7, 17))
    assert all(name.endswith("weight") for name in changed - way_down)  # the norms are constants


def test_a_recipe_can_ask_for_clips_without_an_object(settings: list[str]) -> None:
    for empty in (0, 1):
        changes = ["data.stills.photos=0", f"data.stills.empty={empty}"]
        recipe = read_recipe("everyday", [*settings, *changes])
        clips = build_clips(recipe, recipe.network.label_set(), print)
        objects = [len(clips[number].classes) for number in range(6)]
        assert (max(objects) == 0) if empty else (min(objects) > 0)


def test_a_recipe_can_say_what_is_annotated_everywhere(settings: list[str]) -> None:
    """By name, to the classes that a photo of the recipe may show without an annotation."""
    for names, unsure in (("[]", {6}), ('["animal","bicycle","boat"]', {3, 4})):
        changes = ["data.stills.photos=1", f"data.stills.always_annotated={names}"]
        recipe = read_recipe("everyday", [*settings, *changes])
        clips = build_clips(recipe, recipe.network.label_set(), print)
        assert {len(clips[number].unsure) for number in range(6)} <= unsure


def test_what_a_recipe_starts_from_is_trained_first(
    settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after the other, each from the weights of the one before; an interrupted one goes on."""
    monkeypatch.chdir(tmp_path)
    small = [*settings, "schedule.steps=2", "run.workers=0"]
    names = ("everyday_base", "everyday_spans")
    before = [(Path("runs", name), read_recipe(name, small)) for name in names]
    options = [part for each in small for part in ("--set", each)]
    run_visolo("train", "everyday", *options).refused("--with-start")
    run_visolo("train", "--with-start").refused("name a recipe")
    monkeypatch.setattr(start, "missing_starts", lambda *_: before)
    assert not trained(small, before[0][0], stop_after=1)
    command = ("train", "everyday", "--with-start", *options)
    run_visolo(*command).refused("runs/everyday_base' holds a training: continue it with --resume")
    outcome = run_visolo(*command, "--resume").succeeded()
    assert outcome.out.split() == ["runs/everyday/weights.safetensors"]
    assert "training 2 of 3: runs/everyday_spans" in outcome.err
    first, second, third = (
        load_checkpoint(Path("runs", name, "weights.safetensors")).state
        for name in (*names, "everyday")
    )
    kept = "backbone.features.3.conv.0.0.weight"
    assert torch.equal(first[kept], second[kept])
    assert torch.equal(first[kept], third[kept])
    learns = "category_branch.before_memory.0.conv.weight"
    assert not torch.equal(first[learns], third[learns])
    near = [torch.dist(first[learns], each[learns]) for each in (second, third)]
    assert near[0] < near[1]
