"""Whole trainings from recipes: the command, its folder, several processes, interruptions."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from forked_training import ForkedTraining
from helpers import run_visolo
from visolo_core.config import PAPER
from visolo_core.errors import VisoloError
from visolo_core.nn.checkpoint import load_checkpoint
from visolo_core.nn.tensor_files import load_tensors
from visolo_train.data.synthetic_data import write_synthetic_data
from visolo_train.learning.recipe import names, read_recipe

STEPS = 40
SMALL = [
    "network.preset=lite", "network.width=16", "network.groups=4", "network.mask_width=16",
    "network.backbone_width=16", "network.input_size=[64,96]", "network.grid=[4,6]",
    "schedule.batch=2", "schedule.warm_up=2", "schedule.precision=float32",
    "run.workers=0", "run.tensorboard=false", "run.device=cpu",
]  # fmt: skip


def options(*settings: str) -> list[str]:
    return [part for setting in (*SMALL, *settings) for part in ("--set", setting)]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(folder / "weights.safetensors").state


def alike(first: Path, second: Path) -> bool:
    a, b = weights(first), weights(second)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def start(folder: Path, *settings: str, processes: int = 1) -> subprocess.Popen[bytes]:
    """The command in processes of its own."""
    command = [sys.executable, "-m"]
    if processes > 1:
        command += [
            "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m",
        ]  # fmt: skip
    command += ["visolo.cli", "train", "lite_synth", "-o", str(folder), "--resume"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, *options(*settings)], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
        env=environment,
    )  # fmt: skip


def finish(process: subprocess.Popen[bytes]) -> str:
    """Wait for the end; returns standard error."""
    _, errors = process.communicate(timeout=300)
    return errors.decode()


def succeed(process: subprocess.Popen[bytes]) -> None:
    errors = finish(process)
    assert process.returncode == 0, errors


# ---------------------------------------------------------------------------------- recipes


@pytest.mark.parametrize("name", names())
def test_recipes_of_the_package_are_whole(name: str) -> None:
    recipe = read_recipe(name, [])
    assert recipe.network.config().classes == len(recipe.network.label_set())
    assert sum(table.share for table in recipe.data.values()) == 1
    if name != "lite_synth" and not name.startswith("everyday"):  # the paper's
        assert recipe.network.config() == PAPER.with_classes(len(recipe.network.label_set()))
        schedule = recipe.schedule
        assert (schedule.batch, schedule.learning_rate, schedule.weight_decay) == (16, 1e-4, 1e-4)
        assert (schedule.backbone_factor, schedule.clip_norm) == (0.1, 0.01)
        assert schedule.extent == "official"
        assert recipe.start.frozen == ("conv1", "bn1", "layer1")
        assert all(table.rotation == 15 and table.reach == 20 for table in recipe.data.values())


def test_every_setting_can_be_changed() -> None:
    changes = ["schedule.drops=[3,5]", "data.coco.share=0", "network.labels=ovis", "run.threads=2"]
    recipe = read_recipe("ytvis2019_r50", changes)
    assert recipe.schedule.drops == (3, 5)
    assert recipe.data["coco"].share == 0
    assert recipe.network.config().classes == 25
    assert recipe.run.threads == 2


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ("schedule.stepz=3", "stepz"),
        ("schedule.steps=no", "steps"),
        ("schedule.steps=0", "steps must be 1 or more"),
        ("schedule.learning_rate=nan", "learning_rate"),
        ("steps=3", "not a setting"),
        ("schedule", "not a setting"),
        ("schedule.steps.x=3", "not a table"),
        ("network.preset=huge", "preset 'huge'"),
        ("network.labels=none", "label set 'none'"),
        ("data.shapes.kind=filmed", "data.shapes.kind"),
        ("data.shapes.share=0", "share above 0"),
        ("schedule.batch=3", "multiple of 2"),
        ("schedule.precision=float8", "precision"),
        ("run.device=abacus", "abacus"),
        ("start.weights=nowhere.pt", "nowhere.pt"),
        ("start.backbone=nowhere.pth", "nowhere.pth"),
        ('start.frozen=["conv1"]', "backbone_norm"),
    ],
)
def test_unusable_settings_are_refused(tmp_path: Path, change: str, word: str) -> None:
    settings = options("schedule.steps=1", "schedule.accumulate=2", change)
    run_visolo("train", "lite_synth", "-o", tmp_path / "run", *settings).refused(word)
    assert not (tmp_path / "run").exists()


def test_files_that_are_not_recipes(tmp_path: Path) -> None:
    run_visolo("train", "resnet").refused("recipe 'resnet' is unknown", "lite_synth")
    run_visolo("train", tmp_path / "my.toml").refused("cannot read")
    (tmp_path / "my.toml").write_text("[network\n")
    run_visolo("train", tmp_path / "my.toml").refused("is not TOML")
    (tmp_path / "my.toml").write_text("[data.x]\nkind='drawn'\n")
    run_visolo("train", tmp_path / "my.toml").refused("network", "Field required")


# ------------------------------------------------------------------------- the training itself


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training without an interruption."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    succeed(start(folder, f"schedule.steps={STEPS}", "run.save_every=1"))
    return folder


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """For what the test forks, as for the others: more threads add up in another order."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.mark.usefixtures("one_thread")
def test_killed_ten_times(whole: Path, tmp_path: Path) -> None:
    """SIGKILL at any moment costs the steps since the last checkpoint and nothing else."""
    folder, random = tmp_path / "run", np.random.default_rng(7)
    command = ["lite_synth", "-o", str(folder), "--resume"]
    command += options(f"schedule.steps={STEPS}", "run.save_every=1")
    kills, steps = 0, []
    while kills < 10:
        before = written(folder)
        process = ForkedTraining(command, tmp_path / "errors")
        # Usually let it save a step of its own, sometimes kill it while it starts.
        if random.random() < 0.8:
            while written(folder) == before and process.runs:
                time.sleep(0.005)
        time.sleep(random.uniform(0, 0.1))
        if process.runs:
            process.kill()
            kills += 1
        process.end()
        if checkpointed(folder) >= STEPS:
            break
        steps.append(checkpointed(folder))
    assert kills >= 8, "training ended before it was killed often enough"
    assert steps == sorted(steps)
    ForkedTraining(command, tmp_path / "errors").succeed()
    assert alike(folder, whole)


def written(folder: Path) -> int:
    """Changes with every checkpoint, and is quicker than reading it."""
    path = folder / "checkpoint.pt"
    return path.stat().st_mtime_ns if path.exists() else 0


def checkpointed(folder: Path) -> int:
    path = folder / "checkpoint.pt"
    return int(load_tensors(path)["step"]) if path.exists() else 0


def test_two_processes_are_one(whole: Path, tmp_path: Path) -> None:
    """The same batch, shared by two processes, and in two turns: the same weights but for the
    order of sums. Norms are frozen, since batch norms see only the clips of their own process."""
    settings = ["schedule.steps=4", "schedule.batch=4", "network.backbone_norm=frozen"]
    settings += ["schedule.learning_rate=1e-4"]
    folders = {name: tmp_path / name for name in ("one", "two", "turns")}
    running = [
        start(folders["one"], *settings),
        start(folders["two"], *settings, processes=2),
        start(folders["turns"], *settings, "schedule.accumulate=2"),
    ]
    for each in running:
        succeed(each)
    expected = weights(folders["one"])
    for name in ("two", "turns"):
        for key, trained in weights(folders[name]).items():
            # Adam's step does not depend on the gradient's size, so that where a gradient is
            # almost nothing, rounding decides its sign: compare with the sum of all steps.
            assert (trained - expected[key]).abs().max() <= 8e-4, (name, key)
        mean = np.mean(
            [float((f - expected[k]).abs().mean()) for k, f in weights(folders[name]).items()]
        )
        assert mean < 2e-6, name


def test_interrupted_by_the_user(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = start(folder, f"schedule.steps={STEPS}", "run.save_every=1000", "run.log_every=1")
    assert process.stderr
    for line in process.stderr:
        if b"step 3 of" in line:
            process.send_signal(signal.SIGINT)
            break
    errors = finish(process)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert 3 <= checkpointed(folder) < STEPS
    assert not (folder / "weights.safetensors").exists()
    succeed(start(folder, f"schedule.steps={STEPS}", "run.save_every=1000"))
    ours, theirs = weights(folder), weights(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_folder_is_not_written_over(whole: Path) -> None:
    settings = options(f"schedule.steps={STEPS}", "run.save_every=1")
    command = ("train", "lite_synth", "-o", whole)
    run_visolo(*command, *settings).refused("holds a training", "--resume")
    run_visolo(*command, "--resume", *settings, "--set", "schedule.steps=41").refused(
        "schedule.steps = 40, now it is 41"
    )
    run_visolo(*command, "--resume", *settings, "--set", "data.shapes.seed=3").refused(
        "data.shapes.seed"
    )


# ------------------------------------------------------------------------------ data on disk


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "shapes"
    write_synthetic_data(folder, videos=4, seed=3, frames=4, size=(64, 96))
    return folder


def from_disk(shapes: Path, *settings: str) -> list[str]:
    return options(
        "data.shapes.kind=annotated",
        f"data.shapes.annotations={shapes / 'instances.json'}",
        *settings,
    )


def test_scores_during_training(shapes: Path, tmp_path: Path) -> None:
    settings = from_disk(
        shapes, f"validation.annotations={shapes / 'instances.json'}", "validation.every=2",
        "schedule.steps=4", "run.tensorboard=true", "run.log_every=1",
        "data.shapes.short_sides=[64,80]", "data.shapes.rotation=15", "schedule.precision=bfloat16",
    )  # fmt: skip
    outcome = run_visolo("train", "lite_synth", "-o", tmp_path / "run", *settings).succeeded()
    assert outcome.out.strip() == str(tmp_path / "run" / "weights.safetensors")
    assert "step 2: AP " in outcome.err
    assert "step 4: AP " in outcome.err
    assert list((tmp_path / "run" / "tensorboard").iterdir())


def test_training_starts_from_given_weights(whole: Path, shapes: Path, tmp_path: Path) -> None:
    """A classifier for other categories is initialised again; all other weights are kept."""
    document = json.loads((shapes / "instances.json").read_text())
    document["categories"] = document["categories"][:2]
    document["annotations"] = [
        entry | {"category_id": 1 + entry["category_id"] % 2} for entry in document["annotations"]
    ]
    two = tmp_path / "two.json"
    two.write_text(json.dumps(document))
    settings = options(
        f"start.weights={whole / 'weights.safetensors'}", f"network.labels={two}",
        "data.shapes.kind=annotated", f"data.shapes.annotations={two}",
        f"data.shapes.images={shapes / 'JPEGImages'}", "schedule.steps=1",
        "schedule.learning_rate=1e-12", "schedule.average=0",
    )  # fmt: skip
    run_visolo("train", "lite_synth", "-o", tmp_path / "run", *settings).succeeded()
    new, old = weights(tmp_path / "run"), weights(whole)
    assert len(new["category_branch.classifier.weight"]) == 2
    assert torch.allclose(
        new["mask_branch.smooth.conv.weight"], old["mask_branch.smooth.conv.weight"]
    )


def broken(shapes: Path, folder: Path, damage: Any) -> Path:
    document = json.loads((shapes / "instances.json").read_text())
    damage(document)
    folder.mkdir()
    (folder / "JPEGImages").symlink_to(shapes / "JPEGImages")
    (folder / "instances.json").write_text(json.dumps(document))
    return folder


def another_height(document: Any) -> None:
    for video in document["videos"]:
        video["height"] = 65
    for entry in document["annotations"]:
        entry["segmentations"] = [[[1, 1, 9, 1, 9, 9]]] * 4


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda d: d["annotations"][0].update(category_id=9), ("annotations[0]", "category 9")),
        (lambda d: d["videos"].append(d["videos"][0]), ("videos[4]", "that of videos[0]")),
        (lambda d: d.update(annotations=[]), ("no video with an object",)),
        (lambda d: d["categories"][0].update(name="blob"), ("category 1", "'blob'")),
        (
            lambda d: d["annotations"][0]["segmentations"].__setitem__(
                0, {"size": [9, 9], "counts": [81]}
            ),
            ("annotations[0]", "9x9"),
        ),
        (
            lambda d: [v.update(file_names=["../x.jpg"] * 4) for v in d["videos"]],
            ("leads out of",),
        ),
        (
            lambda d: [v.update(file_names=["no.jpg"] * 4) for v in d["videos"]],
            ("cannot read the frame", "no.jpg"),
        ),
        (another_height, ("is 96x64", "says 96x65")),
    ],
)  # fmt: skip
def test_bad_data(shapes: Path, tmp_path: Path, damage: Any, words: tuple[str, ...]) -> None:
    folder = broken(shapes, tmp_path / "data", damage)
    settings = from_disk(folder, "schedule.steps=1")
    run_visolo("train", "lite_synth", "-o", tmp_path / "run", *settings).refused(*words)


def test_a_video_without_annotations_is_reported(shapes: Path, tmp_path: Path) -> None:
    def bare(document: Any) -> None:
        document["annotations"] = [a for a in document["annotations"] if a["video_id"] != 2]

    folder = broken(shapes, tmp_path / "data", bare)
    settings = from_disk(folder, "schedule.steps=1")
    outcome = run_visolo("train", "lite_synth", "-o", tmp_path / "run", *settings).succeeded()
    assert "instances.json': 1 of 4 videos have no object" in outcome.err.replace("\n", "")
    assert "the first is 2" in outcome.err.replace("\n", " ")


def test_a_truncated_frame_is_named(shapes: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    write_synthetic_data(folder, videos=1, seed=3, frames=2, size=(64, 96))
    for frame in (folder / "JPEGImages").rglob("*.jpg"):
        frame.write_bytes(frame.read_bytes()[:400])
    for workers in (0, 1):
        settings = from_disk(folder, "schedule.steps=1", f"run.workers={workers}")
        run_visolo("train", "lite_synth", "-o", tmp_path / f"{workers}", *settings).refused(
            "cannot read the frame", "00000"
        )


def test_weights_with_nan_are_refused(whole: Path, shapes: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    from visolo_core.nn.checkpoint import save_checkpoint

    checkpoint = load_checkpoint(whole / "weights.safetensors")
    state = dict(checkpoint.state)
    state["memory.value.conv.bias"] = state["memory.value.conv.bias"] * torch.nan
    save_checkpoint(tmp_path / "nan.safetensors", replace(checkpoint, state=state))
    settings = options(f"start.weights={tmp_path / 'nan.safetensors'}")
    run_visolo("train", "lite_synth", "-o", tmp_path / "run", *settings).refused(
        "NaN", "memory.value.conv.bias"
    )


def test_backbone_from_a_file(tmp_path: Path) -> None:
    from torchvision.models import resnet18

    from visolo_core.nn import Visolo
    from visolo_train.learning.start import load_backbone

    torch.manual_seed(0)
    theirs = resnet18()
    torch.save(theirs.state_dict(), tmp_path / "resnet18.pth")
    recipe = read_recipe("lite_synth", ["network.backbone_width=64"])
    model = Visolo(recipe.network.config())
    load_backbone(model, str(tmp_path / "resnet18.pth"))
    name = "layer3.1.conv2.weight"
    assert torch.equal(model.backbone.state_dict()[name], theirs.state_dict()[name])
    narrow = Visolo(read_recipe("lite_synth", []).network.config())
    with pytest.raises(VisoloError, match="misshaped"):
        load_backbone(narrow, str(tmp_path / "resnet18.pth"))


def test_backbone_without_a_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from urllib.error import URLError

    def offline(*_: object, **__: object) -> None:
        raise URLError("no route")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    settings = options("network.backbone_width=64", "start.backbone=imagenet")
    run_visolo("train", "lite_synth", "-o", tmp_path / "run", *settings).refused(
        "cannot download", "start.backbone=FILE"
    )
