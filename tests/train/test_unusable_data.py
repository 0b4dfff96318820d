"""Data that a training cannot use are reported with the mend, and numbers have to be numbers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from helpers import run_visolo
from visolo_core.categories import SHAPES
from visolo_core.errors import VisoloError
from visolo_train.data.annotations import read_annotations
from visolo_train.data.own_data import read_own_data
from visolo_train.data.synthetic_data import write_synthetic_data
from visolo_train.learning.data_sets import build_clips
from visolo_train.learning.recipe import read_recipe

CASES = Path(__file__).parent / "cases"
Damage = Callable[[Any], object]


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "shapes"
    write_synthetic_data(folder, videos=3, seed=3, frames=4, size=(64, 96))
    return folder


@pytest.fixture(scope="module")
def cvat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CVAT's COCO export of brush masks, and pictures of their size."""
    folder = tmp_path_factory.mktemp("cvat")
    shutil.copy(CASES / "cvat.json", folder)
    (folder / "JPEGImages").mkdir()
    for image in json.loads((CASES / "cvat.json").read_text())["images"]:
        picture = Image.new("RGB", (image["width"], image["height"]))
        picture.save(folder / "JPEGImages" / image["file_name"])
    return folder / "cvat.json"


def changed(shapes: Path, folder: Path, damage: Damage) -> Path:
    """A copy of the annotations with damage, beside the same frames."""
    document = json.loads((shapes / "instances.json").read_text())
    damage(document)
    (folder / "JPEGImages").symlink_to(shapes / "JPEGImages")
    (folder / "instances.json").write_text(json.dumps(document))
    return folder / "instances.json"


def problems(path: Path, *options: object) -> list[str]:
    """What the check of a data set finds; its exit status says whether it found anything."""
    outcome = run_visolo("data", "check", path, "--json", *options)
    listed: list[str] = outcome.json()["problems"]
    assert outcome.status == int(bool(listed)), outcome.err
    return listed


# ------------------------------------------------------------------------- crowds as objects


def test_brush_masks_of_cvat_are_named_with_their_mend(cvat: Path) -> None:
    (problem,) = problems(cvat)
    assert "every mask is a crowd" in problem
    assert "train with --crowd-objects" in problem
    assert f"visolo data import {cvat} --crowd-objects -o NEW.json" in problem
    elsewhere = cvat.parent / "other pictures"
    elsewhere.symlink_to(cvat.parent / "JPEGImages")
    (problem,) = problems(cvat, "--images", elsewhere)
    assert f"--images '{elsewhere}' --crowd-objects" in problem
    assert problems(cvat, "--crowd-objects") == []


def test_brush_masks_of_cvat_are_trained_on_by_option(cvat: Path, tmp_path: Path) -> None:
    start = ("train", "--from", "shapes", "--data", cvat, "-o", tmp_path / "run")
    steps = ("--set", "schedule.steps=-1")  # ends it as soon as the data are read
    run_visolo(*start, *steps).refused("only crowds", "add --crowd-objects")
    run_visolo(*start, "--crowd-objects", *steps).refused("steps must be 1 or more")
    data = read_own_data(cvat, crowd_objects=True)
    assert data.frames > 10
    assert len(data.training.tracks) + len(data.held_out.tracks) == 54
    assert not any(track.crowd for track in data.training.tracks)


def test_a_recipe_reads_crowds_as_objects_by_option(cvat: Path, tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(
        '[network]\npreset = "lite"\nlabels = "shapes"\n[schedule]\nsteps = 1\nbatch = 1\n'
        f'[data.own]\nannotations = "{cvat}"\n'
    )
    with pytest.raises(VisoloError, match=r"no video with an object .* visolo data check"):
        build_clips(read_recipe(str(path), []), SHAPES)
    recipe = read_recipe(str(path), ["data.own.crowd_objects=true"])
    assert build_clips(recipe, SHAPES)[0].masks.any()


def test_crowds_among_objects_are_noted(shapes: Path, tmp_path: Path) -> None:
    path = changed(shapes, tmp_path, lambda d: d["annotations"][0].update(iscrowd=1))
    report = run_visolo("data", "check", path, "--json").succeeded().json()
    assert any("1 crowds are not trained on" in note for note in report["notes"])
    assert read_annotations(path).tracks[0].crowd
    assert not read_annotations(path, crowd_objects=True).tracks[0].crowd


def test_a_video_file_of_crowds_is_not_sent_to_the_import(shapes: Path, tmp_path: Path) -> None:
    def damage(document: Any) -> None:
        for each in document["annotations"]:
            each["iscrowd"] = 1

    (problem,) = problems(changed(shapes, tmp_path, damage))
    assert problem.endswith("train with --crowd-objects")


# --------------------------------------------------------------------- nothing to learn from


def emptied(document: Any) -> None:
    """Crowds, and objects whose masks have no pixel."""
    for place, each in enumerate(document["annotations"]):
        if place % 2:
            each["iscrowd"] = 1
        else:
            masks = each["segmentations"]
            masks[:] = [{"size": [64, 96], "counts": [64 * 96]} for _ in masks]
            each["areas"] = [0] * len(masks)


def as_images(document: Any) -> None:
    document["images"] = [
        {**each, "file_name": each["file_names"][0]} for each in document.pop("videos")
    ]
    document["annotations"] = []


NOTHING: dict[str, tuple[Damage, str]] = {
    "no annotation": (lambda d: d["annotations"].clear(), "there is no annotation"),
    "images alone": (as_images, "there is no annotation"),
    "crowds and empty masks": (emptied, "every mask is a crowd or has no pixel"),
    "nulls": (
        lambda d: [each.update(segmentations=[None] * 4) for each in d["annotations"]],
        "no annotation has a mask",
    ),
}


@pytest.mark.parametrize("kind", NOTHING)
def test_data_without_an_object_fail_the_check_and_the_training(
    shapes: Path, tmp_path: Path, kind: str
) -> None:
    damage, words = NOTHING[kind]
    path = changed(shapes, tmp_path, damage)
    assert any(words in each for each in problems(path)), problems(path)
    recipe = read_recipe(
        "lite_synth", ["data.shapes.kind=annotated", f"data.shapes.annotations={path}"]
    )
    with pytest.raises(VisoloError, match="no video with an object"):
        build_clips(recipe, SHAPES)


# ------------------------------------------------------------------------ twins and lengths

CONTRADICTIONS: dict[str, tuple[Damage, str]] = {
    "an annotation twice": (
        lambda d: d["annotations"].append({**d["annotations"][1], "id": 99}),
        "is the same as annotations[1]: remove one of them",
    ),
    "an id twice": (
        lambda d: d["annotations"][1].update(id=d["annotations"][0]["id"]),
        "is that of annotations[0] already",
    ),
    "a video twice": (
        lambda d: d["videos"].append({**d["videos"][0], "id": 99}),
        "videos[3] is the same as videos[0]",
    ),
    "a frame twice": (
        lambda d: d["videos"][0]["file_names"].__setitem__(1, d["videos"][0]["file_names"][0]),
        "videos[0]: it has the frame '00000/00000.jpg' 2 times",
    ),
    "a category's name twice": (
        lambda d: d["categories"][1].update(name="Disc"),
        "2 categories are named 'disc'",
    ),
    "too few masks": (
        lambda d: d["annotations"][0]["segmentations"].pop(),
        "annotations[0] cannot be used: it has 3 masks for 4 frames",
    ),
    "too few areas": (
        lambda d: d["annotations"][0]["areas"].pop(),
        "annotations[0] cannot be used: it has 3 areas for 4 frames",
    ),
    "too many boxes": (
        lambda d: d["annotations"][0]["bboxes"].append(None),
        "annotations[0]: it has 5 bboxes for 4 frames",
    ),
    "another length": (
        lambda d: d["videos"][1].update(length=3),
        "videos[1]: its length is 3, but it has 4 file_names",
    ),
    "another width": (
        lambda d: d["annotations"][2].update(width=97),
        "annotations[2]: its width is 97, that of its video is 96",
    ),
    "runs that are too long": (
        lambda d: d["annotations"][0]["segmentations"].__setitem__(
            0, {"size": [64, 96], "counts": [64 * 96, 1]}
        ),
        "annotations[0] cannot be used: its run lengths do not cover the frame",
    ),
    # The sum of these is the frame's area, but for an overflow.
    "runs without end": (
        lambda d: d["annotations"][0]["segmentations"].__setitem__(
            0, {"size": [64, 96], "counts": [2**63 - 1, 2**63 - 1, 64 * 96 + 2]}
        ),
        "annotations[0] cannot be used: its run lengths do not cover the frame",
    ),
    "a size of one number": (
        lambda d: d["annotations"][0]["segmentations"].__setitem__(
            0, {"size": [64], "counts": [64 * 96]}
        ),
        "annotations[0] cannot be used: the size of its mask is not",
    ),
}


@pytest.mark.parametrize("kind", CONTRADICTIONS)
def test_contradictions_are_reported(shapes: Path, tmp_path: Path, kind: str) -> None:
    damage, words = CONTRADICTIONS[kind]
    listed = problems(changed(shapes, tmp_path, damage))
    assert any(words in each for each in listed), listed


def test_images_with_the_same_picture_are_reported(cvat: Path, tmp_path: Path) -> None:
    document = json.loads(cvat.read_text())
    document["images"].append({**document["images"][2], "id": 99})
    (tmp_path / "twins.json").write_text(json.dumps(document))
    listed = problems(tmp_path / "twins.json", "--images", cvat.parent / "JPEGImages")
    assert "images[18] is the same as images[2]: remove one of them" in listed


# ------------------------------------------------------------------------- byte order, numbers


def test_a_byte_order_mark_is_read() -> None:
    assert len(read_annotations(CASES / "bom.json").videos) == 3


def test_an_area_that_is_no_number_is_refused_by_its_record(tmp_path: Path) -> None:
    words = ["annotations[0]", "its areas[0] is NaN"]
    (tmp_path / "results.json").write_text("[]")
    run_visolo("score", CASES / "nanarea.json", tmp_path / "results.json").refused(*words)
    listed = problems(CASES / "nanarea.json", "--no-decode")
    assert all(word in listed[0] for word in words)


def test_numbers_outside_of_the_records(shapes: Path, tmp_path: Path) -> None:
    path = changed(shapes, tmp_path, lambda d: d.update(info={"fps": float("nan")}))
    with pytest.raises(VisoloError, match=r"info\.fps is NaN"):
        read_annotations(path)
    assert problems(path) == ["info.fps is NaN, and numbers must be finite"]


NUMBERS = ["NaN", "Infinity", "-Infinity", "1e999", '"nan"', "true", "null", "[1]", "1" * 400]


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize(
    "place",
    [("annotations", 1, "areas", 0), ("videos", 1, "width"), ("annotations", 1, "video_id")],
)
def test_numbers_of_annotations(
    shapes: Path, tmp_path: Path, number: str, place: tuple[str | int, ...]
) -> None:
    def damage(document: Any) -> None:
        for key in place[:-1]:
            document = document[key]
        document[place[-1]] = "MARK"

    path = changed(shapes, tmp_path, damage)
    path.write_text(path.read_text().replace('"MARK"', number))
    if number == "null" and place[2] == "areas":
        return  # of a frame that does not show the object
    with pytest.raises(VisoloError) as refused:
        read_annotations(path)
    assert f"{place[0]}[{place[1]}] cannot be used" in str(refused.value)
    assert any(f"{place[0]}[{place[1]}]" in each for each in problems(path))


@pytest.mark.parametrize("number", NUMBERS)
def test_scores_of_results_are_numbers(shapes: Path, tmp_path: Path, number: str) -> None:
    results = tmp_path / "results.json"
    entry = {"video_id": 1, "category_id": 1, "score": 0.5, "segmentations": [None] * 4}
    text = json.dumps([entry, {**entry, "score": "MARK"}]).replace('"MARK"', number)
    results.write_text(text)
    run_visolo("score", shapes / "instances.json", results).refused("results[1] cannot be used")


def test_numbers_of_a_box_in_an_import(cvat: Path, tmp_path: Path) -> None:
    document = json.loads(cvat.read_text())
    document["annotations"][3].update(bbox=[1, 2, float("nan"), 4], segmentation=[])
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(document))
    outcome = run_visolo("data", "import", path, "--boxes", "-o", tmp_path / "out.json")
    outcome.refused("annotations[3].bbox[2] is NaN, and numbers must be finite")
    assert not (tmp_path / "out.json").exists()
