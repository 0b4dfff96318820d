"""A network for a user's own classes from a json file alone: what is held out, which settings the
size of the data gives, what is taken over, and when the training ends."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import GoldenSet, run_visolo
from visolo_core.categories import LabelSet
from visolo_core.config import LITE, PAPER, ModelConfig
from visolo_core.errors import VisoloError
from visolo_core.masks import encode_rle
from visolo_core.nn.checkpoint import load_checkpoint
from visolo_core.nn.initialise import ready_to_train
from visolo_train.data.annotations import AnnotatedTrack, Annotations, Video
from visolo_train.data.held_out import MOST, hold_out
from visolo_train.data.own_data import count_frames, read_own_data
from visolo_train.evaluation.scoring import MEASURES, PrecisionRecall, Score
from visolo_train.learning import training as training_module
from visolo_train.learning.best_weights import BestWeights
from visolo_train.learning.own_classes import own_training, prepared
from visolo_train.learning.recipe import read_recipe
from visolo_train.learning.settings import settings_for
from visolo_train.learning.start import weights_file
from visolo_train.learning.team import Team
from visolo_train.learning.training import Training

SMALL = [
    "network.input_size=[64,96]", "network.grid=[4,6]", "run.tensorboard=false", "run.device=cpu",
    "run.workers=0", "schedule.precision=float32", "data.own.frames=2",
]  # fmt: skip
MASK = np.zeros((60, 90), bool)
MASK[10:50, 20:60] = True
RLE = encode_rle(MASK)
CLASSES = {1: "Person", 2: "table", 3: "dog"}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Several gain nothing on networks of this size, and wait for one another on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def options(*settings: str) -> list[str]:
    return [part for setting in (*SMALL, *settings) for part in ("--set", setting)]


def data_set(
    folder: Path, objects: list[list[int]], change: Callable[[Any], None] = lambda _: None
) -> Path:
    """Photos in COCO format: of each, the categories of its objects."""
    (folder / "JPEGImages").mkdir(parents=True)
    random = np.random.default_rng(3)
    for number in range(len(objects)):
        picture = random.integers(0, 256, (60, 90, 3), dtype=np.uint8)
        Image.fromarray(picture).save(folder / "JPEGImages" / f"{number}.png")
    pairs = [(image, category) for image, each in enumerate(objects) for category in each]
    document = {
        "images": [
            {"id": n, "file_name": f"{n}.png", "height": 60, "width": 90}
            for n in range(len(objects))
        ],
        "categories": [{"id": number, "name": name} for number, name in CLASSES.items()],
        "annotations": [
            {"id": at, "image_id": image, "category_id": category, "segmentation": RLE}
            for at, (image, category) in enumerate(pairs, start=1)
        ],
    }
    change(document)
    path = folder / "mine.json"
    path.write_text(json.dumps(document))
    return path


# ---------------------------------------------------------------------------- what is held out


def shown(*videos: list[int], length: int = 1) -> Annotations:
    """Videos with an object of each of these categories in every frame."""
    labels = LabelSet("mine", tuple(CLASSES), tuple(CLASSES.values()))
    names = [tuple(f"{v}/{f}.jpg" for f in range(length)) for v in range(len(videos))]
    return Annotations(
        labels,
        tuple(Video(number, 60, 90, each) for number, each in enumerate(names)),
        tuple(
            AnnotatedTrack(number, category, (RLE,) * length)
            for number, each in enumerate(videos)
            for category in each
        ),
    )


def classes_of(part: Annotations) -> set[int]:
    return {track.category_id for track in part.tracks}


@pytest.mark.parametrize("count", [2, 3, 5, 12, 30, 700])
def test_whole_pictures_are_held_out(count: int) -> None:
    whole = shown(*([1 + at % 3] if count > 5 else [1] for at in range(count)))
    training, held_out = hold_out(whole)
    ids = [video.video_id for part in (training, held_out) for video in part.videos]
    assert sorted(ids) == list(range(count))
    fifth = min(MOST, max(1, round(count / 5)))
    assert fifth <= len(held_out.videos) <= fifth + 2  # to have all classes
    assert classes_of(training) == classes_of(held_out) == classes_of(whole)
    assert hold_out(whole) == (training, held_out)


def test_a_class_of_two_pictures_is_on_both_sides_and_one_of_a_single_picture_is_learnt() -> None:
    training, held_out = hold_out(shown(*[[1]] * 20, [2], [2], [3]))
    assert classes_of(training) == {1, 2, 3}
    assert classes_of(held_out) == {1, 2}


def test_of_few_videos_the_last_frames_are_held_out() -> None:
    training, held_out = hold_out(shown([1], [1, 2], length=20))
    assert [video.file_names[0] for video in held_out.videos] == ["0/16.jpg", "1/16.jpg"]
    assert [len(video.file_names) for video in training.videos] == [16, 16]
    assert all(len(track.segmentations) == 16 for track in training.tracks)


def test_a_class_that_only_the_last_frames_show_is_learnt() -> None:
    late = shown([1], length=20)
    rare = AnnotatedTrack(0, 2, (None,) * 17 + (RLE,) * 3)
    training, held_out = hold_out(Annotations(late.labels, late.videos, (*late.tracks, rare)))
    assert classes_of(training) == {1, 2}
    assert count_frames(held_out) == 4


def test_nothing_is_held_out_of_single_objects() -> None:
    with pytest.raises(VisoloError, match="cannot be divided"):
        hold_out(shown([1], [2]))


# -------------------------------------------------------------------------- what the data hold


def test_frames_without_a_mask_are_left_out_unless_nothing_is_in_them(tmp_path: Path) -> None:
    path = data_set(tmp_path, [[1], [2], [1, 2], [2], [1], [], []])
    data = read_own_data(path)
    assert data.frames + count_frames(data.held_out) == 5
    assert any("2 of 7 frames have no mask" in note for note in data.notes)
    whole = read_own_data(path, empty_frames=True)
    assert len(whole.training.videos) == len(data.training.videos) + 2
    assert len(whole.held_out.videos) == len(data.held_out.videos)


def test_only_classes_with_an_object_are_learnt(tmp_path: Path) -> None:
    path = data_set(tmp_path, [[2]] * 4)
    data = read_own_data(path)
    assert (data.training.labels.ids, data.training.labels.names) == ((2,), ("table",))
    assert any("not learnt: Person, dog" in note for note in data.notes)
    chosen = read_own_data(data_set(tmp_path / "b", [[1, 2], [1], [2], [2, 3]]), classes=["TABLE"])
    assert chosen.training.labels.names == ("table",)
    # The others stay as pictures to paste on: somebody looked at them.
    assert len(chosen.training.videos) + len(chosen.held_out.videos) == 4


def crowds(document: Any) -> None:
    for each in document["annotations"]:
        each["iscrowd"] = 1


def no_masks(document: Any) -> None:
    for each in document["annotations"]:
        each["segmentation"] = []


BAD: dict[str, tuple[list[list[int]], Callable[[Any], None], tuple[str, ...]]] = {
    "no images": ([], lambda d: None, ("no images and no videos",)),
    "no annotations": ([[], []], lambda d: None, ("no masks",)),
    "no masks": ([[1], [2]], no_masks, ("no masks", "not a box alone")),
    "only crowds": ([[1], [2]], crowds, ("only crowds",)),
    "one frame": ([[1, 2], []], lambda d: None, ("one annotated frame",)),
    "nothing to hold out": ([[1], [2]], lambda d: None, ("cannot be divided",)),
    "missing frame": (
        [[1], [1]],
        lambda d: d["images"][1].update(file_name="x.png"),
        ("x.png", "--images"),
    ),
    "leads out": ([[1], [1]], lambda d: d["images"][1].update(file_name="../x"), ("leads out",)),
    "no such category": (
        [[1], [1]],
        lambda d: d["annotations"][0].update(category_id=9),
        ("no category 9",),
    ),
    "no images key": ([[1], [1]], lambda d: d.pop("images"), ("no list 'videos'",)),
}


@pytest.mark.parametrize("name", BAD)
def test_data_that_nothing_can_be_learnt_from(tmp_path: Path, name: str) -> None:
    objects, change, words = BAD[name]
    path = data_set(tmp_path, objects, change)
    refused(tmp_path, path, "everyday").refused(*words)


def refused(tmp_path: Path, path: Path, start: object, *more: object) -> Any:
    """The outcome of a training that cannot begin, and that leaves nothing behind."""
    run = tmp_path / "run"
    outcome = run_visolo("train", "--from", start, "--data", path, "-o", run, *more, *options())
    assert not run.exists()
    return outcome


def test_classes_that_are_not_there(tmp_path: Path) -> None:
    path = data_set(tmp_path, [[1], [1], [2]])
    refused(tmp_path, path, "everyday", "--classes", "cup").refused("no class 'cup'", "table, dog")
    refused(tmp_path, path, "everyday", "--classes", "dog,table").refused("no object", "dog")


def test_networks_to_start_from_that_are_none(tmp_path: Path) -> None:
    path = data_set(tmp_path, [[1], [1]])
    torch.save({"layer1.0.conv1.weight": torch.zeros(1)}, tmp_path / "resnet.pth")
    (tmp_path / "torn.safetensors").write_bytes(b"nonsense")
    (tmp_path / "model.visolo").mkdir()
    for start, word in (
        ("everyone", "everyone"),
        (tmp_path / "none.safetensors", "cannot read"),
        (tmp_path / "resnet.pth", "is not an official checkpoint"),
        (tmp_path / "torn.safetensors", "not a safetensors file"),
        (tmp_path / "model.visolo", "is a folder"),
    ):
        refused(tmp_path, path, start).refused(word)


def test_other_wrong_use(tmp_path: Path) -> None:
    path = data_set(tmp_path, [[1], [1]])
    run_visolo("train").refused("name a recipe")
    run_visolo("train", "lite_synth", "--from", "everyday").refused("take the place of a recipe")
    run_visolo("train", "--from", "everyday").refused("add --data")
    run_visolo("train", "--data", path).refused("add --from")
    run_visolo("train", "lite_synth", "--classes", "cup").refused("belong to --data")
    nowhere = tmp_path / "nowhere"
    refused(tmp_path, path, "everyday", "--backgrounds", nowhere).refused("holds no pictures")
    refused(tmp_path, path, "everyday", "--set", "schedule.stepz=3").refused("stepz")
    refused(tmp_path, path, "everyday", "--set", "start.frozen=['x']").refused("no part 'x'")
    refused(tmp_path, path, "everyday", "--set", "validation.every=0").refused("validation.every")


def test_pictures_with_crowds_need_backgrounds(tmp_path: Path) -> None:
    def crowded(document: Any) -> None:
        crowd = {"category_id": 1, "iscrowd": 1, "segmentation": RLE}
        for n in range(3):
            document["annotations"].append({"id": 10 + n, "image_id": n, **crowd})

    path = data_set(tmp_path, [[1], [1], [1]], crowded)
    refused(tmp_path, path, "everyday").refused("picture annotated in full", "backgrounds")


# -------------------------------------------------------------------------------- the settings

EVERYDAY = ModelConfig(
    backbone="mobilenet_v2_fpn", backbone_width=32, width=64, mask_width=32, groups=8,
    grid=(16, 28), classes=7, input_size=(256, 448),
)  # fmt: skip


def test_more_data_are_trained_on_for_longer() -> None:
    sizes = (2, 12, 30, 100, 1000, 100_000, 10_000_000)
    settings = [settings_for(EVERYDAY, frames) for frames in sizes]
    steps = [each["schedule"]["steps"] for each in settings]
    assert steps == sorted(steps)
    assert 200 <= steps[0] < steps[2] <= 1000
    assert steps[-1] <= 40_000
    assert all(each["schedule"]["warm_up"] < each["schedule"]["steps"] / 10 for each in settings)
    assert all(each["validation"]["every"] > 10 for each in settings)


def test_few_data_freeze_more() -> None:
    few, many = (settings_for(EVERYDAY, frames)["start"]["frozen"] for frames in (20, 500))
    assert set(many) < set(few)
    assert settings_for(PAPER, 500)["start"]["frozen"] == ["conv1", "bn1", "layer1"]
    assert settings_for(LITE, 20)["start"]["frozen"] == []  # its norms learn


def test_the_papers_network_keeps_its_targets() -> None:
    paper, small = (
        settings_for(config, 20)["schedule"] for config in (PAPER.with_classes(3), EVERYDAY)
    )
    assert (paper["extent"], small["extent"]) == ("official", "mask")
    assert paper["learning_rate"] < small["learning_rate"]


# --------------------------------------------------------------------------------- the network


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data_set(tmp_path_factory.mktemp("mine"), [[1, 2], [2, 3], [1], [2], [3], [1, 2, 3]])


def training_of(mine: Path, folder: Path, *changes: str, start: str = "everyday") -> Training:
    own = own_training(start, read_own_data(mine), folder, changes=[*SMALL, *changes])
    with prepared(own, folder):
        return Training(own.recipe, folder, Team(), resume=True)


def test_known_classes_go_on(mine: Path, tmp_path: Path) -> None:
    """A person is a person, a dog was an animal; nothing knows a table."""
    old = load_checkpoint(weights_file(Path("everyday"))).state
    training = training_of(mine, tmp_path / "run")
    new = training.trainer.model.state_dict()
    fresh = ready_to_train(training.trainer.model.config).state_dict()
    for name in ("category_branch.classifier.weight", "category_branch.classifier.bias"):
        assert torch.equal(new[name][0], old[name][0])
        assert torch.equal(new[name][1], fresh[name][1])
        assert torch.equal(new[name][2], old[name][6])
    others = [name for name in new if "classifier" not in name]
    assert all(torch.equal(new[name], old[name]) for name in others)
    assert any("knows already: Person, dog" in note for note in training.notes)


def test_an_official_checkpoint(mine: Path, tmp_path: Path) -> None:
    state = {name: torch.from_numpy(each) for name, each in GoldenSet.committed().weights().items()}
    torch.save({"model": state}, tmp_path / "official.pth")
    folder = tmp_path / "run"
    own = own_training(str(tmp_path / "official.pth"), read_own_data(mine), folder)
    with prepared(own, folder):
        start = load_checkpoint(folder / "start.safetensors")
    assert start.header.config == PAPER
    assert own.recipe.start.weights == folder / "start.safetensors"
    assert own.recipe.network.config() == PAPER.with_classes(3)


@pytest.mark.parametrize("start", ["everyday", "shapes"])
def test_from_a_json_to_weights_and_again(mine: Path, tmp_path: Path, start: str) -> None:
    """One command trains, says how long it will take, and leaves a recipe that trains too."""
    run, again = tmp_path / "run", tmp_path / "again"
    steps = ("schedule.steps=8", "validation.every=8")
    command: list[object] = ["train", "--from", start, "--data", mine, "-o", run]
    outcome = run_visolo(*command, *options(*steps)).succeeded()
    assert outcome.out.strip() == str(run / "weights.safetensors")
    order = ["step 0: AP", "from here: 1 steps of ", "step 8: AP", "the best weights are", "next: "]
    places = [outcome.err.find(each) for each in order]
    assert -1 not in places, outcome.err
    assert places == sorted(places)
    header = load_checkpoint(run / "weights.safetensors").header
    assert header.labels == LabelSet("mine", tuple(CLASSES), tuple(CLASSES.values()))
    assert header.config.input_size == (64, 96)

    recipe = tomllib.loads((run / "recipe.toml").read_text())
    assert recipe["schedule"]["steps"] == 8
    assert read_recipe(str(run / "recipe.toml"), []).model_dump(mode="json") == json.loads(
        (run / "recipe.json").read_text()
    )
    run_visolo("train", run / "recipe.toml", "-o", again).succeeded()
    first, second = (load_checkpoint(each / "weights.safetensors").state for each in (run, again))
    assert all(torch.equal(first[name], second[name]) for name in first)

    run_visolo(*command, *options(*steps)).refused("holds a training", "--resume")
    run_visolo(*command, "--resume", *options("schedule.steps=9")).refused("steps = 8, now it is 9")
    other = data_set(tmp_path / "other", [[1, 2], [2], [1], [2]])
    command = ["train", "--from", start, "--data", other, "-o", run, "--resume"]
    run_visolo(*command, *options(*steps)).refused("on other data")


def test_recipes_hold_any_path(mine: Path, tmp_path: Path) -> None:
    folder = tmp_path / 'a "b"\n\x7f\\ü'
    own = own_training("everyday", read_own_data(mine), folder, changes=SMALL)
    with prepared(own, folder):
        again = read_recipe(str(folder / "recipe.toml"), [])
    assert again == own.recipe
    assert again.data["own"].annotations == folder / "training" / "mine.json"


# --------------------------------------------------------------- which weights, and when to stop


def selection(path: Path, *scores: float, patience: int = 2) -> BestWeights:
    made = BestWeights(path / "scores.json", 0, patience)
    for step, ap in enumerate(scores):
        made.add(10 * step, ap)
    return made


@pytest.mark.parametrize(
    ("scores", "over"),
    [
        ((), False),
        ((0.0, 0.0, 0.0, 0.0), False),  # nothing learnt yet
        ((0.5, 0.4, 0.3, 0.2), False),  # an old class suffers while a new one is learnt
        ((0.0, 0.2, 0.3, 0.1), False),
        ((0.0, 0.2, 0.1, 0.1), True),
        ((0.0, 0.2, 0.2, 0.2), True),  # no better
        ((0.0, 0.2, 0.1, 0.3), False),
    ],
)
def test_when_a_training_is_over(tmp_path: Path, scores: tuple[float, ...], over: bool) -> None:
    assert selection(tmp_path, *scores).is_over is over
    assert not selection(tmp_path, *scores, patience=0).is_over


def test_the_best_is_the_latest_of_equals(tmp_path: Path) -> None:
    scores = selection(tmp_path, 0.1, 0.4, 0.4, 0.2)
    assert scores.best == (20, 0.4)
    assert scores.is_best(0.4)
    assert not scores.is_best(0.39)


def test_scores_after_the_last_checkpoint_are_forgotten(tmp_path: Path) -> None:
    selection(tmp_path, 0.1, 0.2, 0.3)
    again = BestWeights(tmp_path / "scores.json", 15, 0)
    assert (again.has(10), again.has(20)) == (True, False)
    (tmp_path / "scores.json").write_text("[1]")
    with pytest.raises(VisoloError, match="not a list of scores"):
        BestWeights(tmp_path / "scores.json", 15, 0)


@pytest.fixture
def scores(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Scores to give out in order instead of running the network; ``None`` is Ctrl-C."""

    def give(*values: float | None) -> None:
        remaining = list(values)

        def scored(*_: object) -> Score:
            ap = remaining.pop(0)
            if ap is None:
                raise KeyboardInterrupt
            curves = PrecisionRecall((1,), np.zeros((10, 101, 1)))
            return Score(dict.fromkeys(MEASURES, ap), {}, curves)

        monkeypatch.setattr(training_module, "score_model", scored)

    return give


def trained(mine: Path, folder: Path, *changes: str) -> tuple[bool, Training]:
    every = ("schedule.steps=6", "validation.every=1", "run.save_every=1", "validation.patience=2")
    training = training_of(mine, folder, *every, "schedule.average=0", *changes)
    return training.run(), training


def kept(folder: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(folder / "weights.safetensors").state


def alike(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def test_the_best_weights_are_kept_and_the_training_stops(
    mine: Path, tmp_path: Path, scores: Callable[..., None]
) -> None:
    drops = "schedule.drops=[99]"  # a rate that does not depend on the number of all steps
    scores(0.1, 0.2, 0.5, 0.4, 0.4)
    finished, training = trained(mine, tmp_path / "whole", drops)
    assert finished
    assert training.selection
    assert training.selection.best == (2, 0.5)
    assert training.trainer.step == 4
    assert not alike(kept(tmp_path / "whole"), training.trainer.model.state_dict())
    scores(0.1, 0.2, 0.5)
    finished, two = trained(mine, tmp_path / "two", drops, "schedule.steps=2")
    assert finished
    assert alike(kept(tmp_path / "whole"), two.trainer.model.state_dict())
    scores()  # what is over stays over
    assert trained(mine, tmp_path / "whole", drops)[0]


def test_interrupted_while_it_was_scored_it_ends_the_same(
    mine: Path, tmp_path: Path, scores: Callable[..., None]
) -> None:
    scores(0.1, 0.2, 0.5, 0.4, 0.4)
    assert trained(mine, tmp_path / "whole")[0]
    scores(0.1, 0.2, None)
    finished, training = trained(mine, tmp_path / "parts")
    assert not finished
    assert training.trainer.step == 2
    scores(0.5, 0.4, 0.4)
    assert trained(mine, tmp_path / "parts")[0]
    assert alike(kept(tmp_path / "whole"), kept(tmp_path / "parts"))
    texts = [(tmp_path / each / "scores.json").read_text() for each in ("whole", "parts")]
    assert texts[0] == texts[1]
    assert not list((tmp_path / "parts").glob(".weights*"))


def test_the_best_need_something_to_be_chosen_by(mine: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty.json"
    document = json.loads(mine.read_text())
    empty.write_text(json.dumps(document | {"annotations": []}))
    with pytest.raises(VisoloError, match="has no object"):
        training_of(mine, tmp_path / "run", f"validation.annotations={empty}")
    assert not (tmp_path / "run").exists()
