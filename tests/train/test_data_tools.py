"""The tools for data sets: checking, mapping, splitting and pasting."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from helpers import run_visolo
from outside import real_data
from visolo_core.categories import COCO, OVIS, YTVIS2019, YTVIS2021, LabelSet, plain_name
from visolo_core.masks import decode_rle
from visolo_train.data.annotations import read_annotations
from visolo_train.data.category_maps import category_map
from visolo_train.data.synthetic_data import write_synthetic_data

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "shapes"
    write_synthetic_data(folder, videos=6, seed=3, frames=4, size=(64, 96))
    return folder


def changed(shapes: Path, folder: Path, damage: Callable[[Any], object]) -> Path:
    """A copy of the annotations with damage, beside the same frames."""
    document = json.loads((shapes / "instances.json").read_text())
    damage(document)
    folder.mkdir()
    (folder / "JPEGImages").symlink_to(shapes / "JPEGImages")
    (folder / "instances.json").write_text(json.dumps(document))
    return folder / "instances.json"


# ------------------------------------------------------------------------------------- check


def test_a_whole_data_set_has_no_problem(shapes: Path) -> None:
    outcome = run_visolo("data", "check", shapes / "instances.json", "--labels", "shapes", "--json")
    report = outcome.succeeded().json()
    assert report["problems"] == []
    assert report["summary"]["videos"] == "6"
    assert report["summary"]["frames"] == "24, 4 to 4 a video"
    assert report["summary"]["sizes"] == "96x64 (6)"
    annotations = read_annotations(shapes / "instances.json")
    assert sum(report["tracks_per_category"].values()) == len(annotations.tracks)
    outcome = run_visolo("data", "check", shapes / "instances.json").succeeded()
    assert "96x64 (6)" in outcome.out


def cut_short(run: str) -> Callable[[Any], None]:
    """Compressed run lengths that end before the frame does."""

    def damage(document: Any) -> None:
        masks = document["annotations"][0]["segmentations"]
        masks[0] = {"size": [64, 96], "counts": run}

    return damage


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda d: d["annotations"][1].update(category_id=9), ["annotations[1]", "category 9"]),
        (lambda d: d["annotations"][1].update(video_id=99), ["annotations[1]", "99"]),
        (lambda d: d["annotations"][1].update(id=1), ["annotations[1]", "annotations[0]"]),
        (lambda d: d["annotations"][1].pop("segmentations"), ["annotations[1]", "segmentations"]),
        (lambda d: d["annotations"][1]["segmentations"].pop(), ["annotations[1]", "3 masks for 4"]),
        (lambda d: d["videos"].append(d["videos"][0]), ["videos[6]", "videos[0]"]),
        (lambda d: d["videos"][2].update(height=0), ["videos[2]", "96x0"]),
        (lambda d: d["videos"][2].update(file_names=[]), ["videos[2]", "file_names"]),
        (lambda d: d["videos"][0]["file_names"].__setitem__(1, "no.jpg"), ["'no.jpg'", "missing"]),
        (lambda d: d["videos"][0]["file_names"].__setitem__(1, "../a.jpg"), ["leads out of"]),
        (lambda d: d["annotations"].clear(), ["video 1 ", "has no annotation"]),
        (lambda d: d["categories"][0].update(name="blob"), ["category 1", "'blob'"]),
        (lambda d: d["annotations"][0]["areas"].__setitem__(0, float("nan")), ["annotations[0]"]),
        (cut_short("0"), ["annotations[0]", "do not cover the frame"]),
        (cut_short(""), ["annotations[0]", "not compressed counts"]),
        (cut_short("ooooooooooooooo0"), ["annotations[0]", "not compressed counts"]),
        (
            lambda d: d["annotations"][0]["segmentations"].__setitem__(0, [[1, 2, 3, 4]]),
            ["annotations[0]", "polygon"],
        ),
        (
            lambda d: d["annotations"][0]["segmentations"].__setitem__(0, [[1, 2, 3, 4, 1e9, 2]]),
            ["annotations[0]", "outside of the frame"],
        ),
        (
            lambda d: d["annotations"][0]["segmentations"].__setitem__(
                0, {"size": [9, 9], "counts": [81]}
            ),
            ["annotations[0]", "9x9", "96x64"],
        ),
    ],
)
def test_damage_is_reported(
    shapes: Path, tmp_path: Path, damage: Callable[[Any], object], words: list[str]
) -> None:
    path = changed(shapes, tmp_path / "data", damage)
    outcome = run_visolo("data", "check", path, "--labels", "shapes", "--json")
    assert outcome.status == 1
    problems = outcome.json()["problems"]
    assert any(all(word in problem for word in words) for problem in problems), problems


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "shapes"
    write_synthetic_data(folder, videos=3, seed=3, frames=2, size=(64, 96))
    frames = sorted((folder / "JPEGImages").rglob("*.jpg"))
    frames[0].unlink()
    whole = frames[2].read_bytes()
    frames[2].write_bytes(whole[: len(whole) * 3 // 4])
    Image.new("RGB", (95, 64)).save(frames[4])
    outcome = run_visolo("data", "check", folder / "instances.json")
    assert outcome.status == 1
    problems = [line for line in outcome.out.splitlines() if line.startswith("problem: ")]
    assert len(problems) == 3
    assert "missing" in problems[0]
    assert "cannot be read" in problems[1]
    assert "truncated" in problems[1]
    assert "95x64" in problems[2]
    quick = run_visolo("data", "check", folder / "instances.json", "--no-decode")
    assert quick.out.count("problem: ") == 2


def as_coco(shapes: Path, folder: Path, change: Callable[[Any], object]) -> Path:
    """The first frame of every video as COCO's images, each annotation changed."""
    document = json.loads((shapes / "instances.json").read_text())
    document["images"] = [
        {**each, "file_name": each["file_names"][0]} for each in document.pop("videos")
    ]
    for entry in document["annotations"]:
        entry["image_id"] = entry.pop("video_id")
        entry["segmentation"] = entry.pop("segmentations")[0]
        entry["bbox"] = entry.pop("bboxes")[0] or [1, 1, 9, 9]
        del entry["areas"]
        change(entry)
    folder.mkdir()
    (folder / "JPEGImages").symlink_to(shapes / "JPEGImages")
    (folder / "coco.json").write_text(json.dumps(document))
    return folder / "coco.json"


@pytest.mark.parametrize(
    ("change", "words", "mend"),
    [
        (lambda a: a.pop("segmentation"), "no annotation has a mask", "--boxes"),
        (lambda a: a.update(segmentation=[]), "no annotation has a mask", "--boxes"),
        (lambda a: a.update(iscrowd=1), "every mask is a crowd", "--crowd-objects"),
    ],
)
def test_what_a_training_cannot_use_is_a_problem_with_its_mend(
    shapes: Path, tmp_path: Path, change: Callable[[Any], object], words: str, mend: str
) -> None:
    path = as_coco(shapes, tmp_path / "data", change)
    outcome = run_visolo("data", "check", path, "--json")
    assert outcome.status == 1
    (problem,) = [each for each in outcome.json()["problems"] if words in each]
    assert f"visolo data import {path} {mend} -o" in problem
    mended = tmp_path / "data" / "mended.json"
    run_visolo("data", "import", path, mend, "-o", mended).succeeded()
    assert run_visolo("data", "check", mended, "--json").succeeded().json()["problems"] == []


def test_masks_without_a_pixel_are_a_problem(shapes: Path, tmp_path: Path) -> None:
    def damage(document: Any) -> None:
        empty = {"size": [64, 96], "counts": [64 * 96]}
        document["annotations"][0]["segmentations"][0] = empty

    path = changed(shapes, tmp_path / "data", damage)
    outcome = run_visolo("data", "check", path, "--json")
    assert outcome.status == 1
    (problem,) = outcome.json()["problems"]
    assert "1 tracks have masks without a pixel: video 1" in problem
    assert "write null" in problem


def test_a_byte_order_mark_is_read(shapes: Path, tmp_path: Path) -> None:
    path = changed(shapes, tmp_path / "data", lambda document: None)
    path.write_text(path.read_text(), encoding="utf-8-sig")
    run_visolo("data", "check", path).succeeded()


def test_files_that_are_not_a_data_set(tmp_path: Path) -> None:
    run_visolo("data", "check", tmp_path / "no.json").refused("cannot read")
    (tmp_path / "list.json").write_text("[]")
    run_visolo("data", "check", tmp_path / "list.json").refused("not a json object")
    (tmp_path / "empty.json").write_text("{}")
    run_visolo("data", "check", tmp_path / "empty.json").refused("no list 'videos'")


# ----------------------------------------------------------------------------- coco-to-ytvis


def test_partners_mean_the_same() -> None:
    """Checked by eye: all pairs whose names differ."""
    expected = {
        "ytvis2019": {"bicycle": "motorbike", "motorcycle": "motorbike", "skis": "snowboard"}
        | {"car": "sedan"},
        "ytvis2021": {"bicycle": "motorbike", "motorcycle": "motorbike", "skis": "snowboard"}
        | {"frisbee": "flying disc"},
        "ovis": {"car": "vehicle", "bus": "vehicle", "truck": "vehicle"},
    }
    for labels in (YTVIS2019, YTVIS2021, OVIS):
        pairs = {name_of(COCO, a): name_of(labels, b) for a, b in category_map(labels).items()}
        assert {a: b for a, b in pairs.items() if a != b} == expected[labels.name]
        assert "mouse" not in pairs
        same = {plain_name(name) for name in labels.names} & set(COCO.names) - {"mouse"}
        assert same <= set(pairs), "a category that both have is left out"


def name_of(labels: LabelSet, number: int) -> str:
    return plain_name(labels.names[labels.ids.index(number)])


def coco(folder: Path) -> Path:
    """Two images: a car and a cup; a cup."""
    square = [[1, 1, 9, 1, 9, 9, 1, 9]]
    document = {
        "info": {"year": 2017},
        "images": [
            {"id": 4, "file_name": "4.jpg", "height": 20, "width": 30},
            {"id": 9, "file_name": "9.jpg", "height": 20, "width": 30},
        ],
        "categories": [
            {"id": i, "name": n} for i, n in zip(COCO.ids, COCO.names, strict=True)
        ],
        "annotations": [
            {"id": 1, "image_id": 4, "category_id": 3, "iscrowd": 0, "segmentation": square},
            {"id": 2, "image_id": 4, "category_id": 47, "iscrowd": 0, "segmentation": square},
            {"id": 3, "image_id": 9, "category_id": 47, "iscrowd": 0, "segmentation": square},
        ],
    }  # fmt: skip
    folder.mkdir(exist_ok=True)
    path = folder / "coco.json"
    path.write_text(json.dumps(document))
    return path


def test_coco_under_other_categories(tmp_path: Path) -> None:
    output = tmp_path / "mapped.json"
    outcome = run_visolo("data", "coco-to-ytvis", coco(tmp_path), "-o", output).succeeded()
    assert "1 of 2 images, 1 of 3 objects" in outcome.err
    document = json.loads(output.read_text())
    assert document["info"] == {"year": 2017}
    assert [image["file_name"] for image in document["images"]] == ["4.jpg"]
    assert [entry["category_id"] for entry in document["annotations"]] == [6]
    annotations = read_annotations(output)
    assert annotations.labels.ids == YTVIS2019.ids
    assert annotations.labels.names == YTVIS2019.names
    (track,) = annotations.tracks
    assert track.segmentations[0] is not None
    assert decode_rle(track.segmentations[0]).sum() > 50


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda d: d.pop("images"), ["not in COCO's format"]),
        (lambda d: d["categories"][0].update(name="people"), ["category 1", "'people'"]),
        (lambda d: d["annotations"][0].update(category_id=12), ["annotations[0]", "category 12"]),
        (lambda d: d["annotations"][0].pop("image_id"), ["annotations[0]", "image_id"]),
        (lambda d: d["annotations"].pop(0), ["no image", "ytvis2019"]),
    ],
)
def test_files_that_are_not_coco(
    tmp_path: Path, damage: Callable[[Any], object], words: list[str]
) -> None:
    path = coco(tmp_path)
    document = json.loads(path.read_text())
    damage(document)
    path.write_text(json.dumps(document))
    run_visolo("data", "coco-to-ytvis", path, "-o", tmp_path / "out.json").refused(*words)
    assert not (tmp_path / "out.json").exists()


def test_labels_that_coco_is_not_mapped_to(tmp_path: Path) -> None:
    command = ("data", "coco-to-ytvis", coco(tmp_path), "-o", tmp_path / "out.json")
    run_visolo(*command, "--labels", "shapes").refused("'shapes'", "ytvis2019")


# ------------------------------------------------------------------------------------- split


def test_a_split_is_fixed_by_names(shapes: Path, tmp_path: Path) -> None:
    run_visolo(
        "data", "split", shapes / "instances.json", "-o", tmp_path / "a", "--share", "0.4"
    ).succeeded()
    sides = [json.loads((tmp_path / "a" / f"{name}.json").read_text()) for name in ("train", "val")]
    whole = json.loads((shapes / "instances.json").read_text())
    for key in ("videos", "annotations"):
        both = sorted(sides[0][key] + sides[1][key], key=lambda entry: entry["id"])
        assert both == whole[key]
    for side in sides:
        listed = {video["id"] for video in side["videos"]}
        assert {entry["video_id"] for entry in side["annotations"]} <= listed
        assert side["categories"] == whole["categories"]

    # With other ids, in another order and without some videos, each falls on the same side.
    def shuffle(document: Any) -> None:
        document["videos"] = document["videos"][:0:-1]
        for video in document["videos"]:
            video["id"] += 100
        document["annotations"] = []

    other = changed(shapes, tmp_path / "data", shuffle)
    run_visolo("data", "split", other, "-o", tmp_path / "b", "--share", "0.4").succeeded()
    validation = json.loads((tmp_path / "b" / "val.json").read_text())["videos"]
    folders = {video["file_names"][0] for video in sides[1]["videos"]}
    missing = {whole["videos"][0]["file_names"][0]}
    assert {video["file_names"][0] for video in validation} == folders - missing


def test_unusable_splits_are_refused(shapes: Path, tmp_path: Path) -> None:
    command = ("data", "split", shapes / "instances.json", "-o", tmp_path / "out")
    run_visolo(*command, "--share", "1.5").refused("1.5")
    run_visolo(*command, "--share", "0.0001").refused("no videos for validation")
    (tmp_path / "odd.json").write_text('{"videos": [{"id": 1}], "annotations": []}')
    run_visolo("data", "split", tmp_path / "odd.json", "-o", tmp_path / "out").refused("neither")
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    run_visolo(*command).refused("exists already")


# ------------------------------------------------------------------------------------- paste


def test_pasted_data_on_disk(shapes: Path, tmp_path: Path) -> None:
    command = ("data", "synth", tmp_path / "out", "--videos", 3, "--frames", 6)
    relays = ("--size", "120x80", "--relays", "0.5")
    run_visolo(*command, "--paste", shapes / "instances.json", *relays).succeeded()
    outcome = run_visolo("data", "check", tmp_path / "out" / "instances.json", "--labels", "shapes")
    outcome.succeeded()


def test_data_that_cannot_be_pasted(shapes: Path, tmp_path: Path) -> None:
    def partly(document: Any) -> None:
        for video in document["videos"]:
            video["exhaustive"] = False

    command = ("data", "synth", tmp_path / "out", "--videos", 1)
    path = changed(shapes, tmp_path / "data", partly)
    run_visolo(*command, "--paste", path).refused("annotated in full")
    run_visolo(*command, "--images", shapes).refused("--paste")
    run_visolo(*command, "--photos", "0.5").refused("--paste")
    run_visolo(*command, "--relays", "0.5").refused("--paste")
    whole = shapes / "instances.json"
    run_visolo(*command, "--paste", whole, "--images", tmp_path).refused("cannot read the frame")
    assert not (tmp_path / "out").exists()


# --------------------------------------------------------------------------------- real data


@pytest.mark.parametrize(
    ("annotations", "images", "labels"),
    [
        ("real-vis/instances.json", "real-vis/JPEGImages", "ytvis2019"),
        ("coco128/instances_train2017.json", "coco128/images", "coco"),
    ],
)
def test_real_data_passes(annotations: str, images: str, labels: str) -> None:
    files = real_data(annotations), "--images", real_data(images)
    run_visolo("data", "check", *files, "--labels", labels).succeeded()
