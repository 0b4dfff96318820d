"""Data sets go to other programs and come back, to the pixel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from foreign_clip import FRAMES, LABELS, SIZE, TRACKS, masks, write_pictures
from helpers import run_visolo
from visolo_core.masks import encode_rle
from visolo_train.data.annotations import read_annotations

NAMES = {1: tuple(f"a/{number:05}.png" for number in range(FRAMES)),
         2: tuple(f"b/{number:05}.png" for number in range(FRAMES))}  # fmt: skip


def crowd() -> NDArray[np.bool_]:
    region = np.zeros((FRAMES, *SIZE), bool)
    region[2, 22:, 30:] = True
    return region


def annotation(number: int, video: int, category: int, drawn: NDArray[np.bool_]) -> dict[str, Any]:
    return {
        "id": number,
        "video_id": video,
        "category_id": category,
        "segmentations": [encode_rle(mask) if mask.any() else None for mask in drawn],
        "iscrowd": 0,
    }


def document() -> dict[str, Any]:
    """Two videos: the clip, and the clip backwards."""
    written: dict[str, Any] = {
        "categories": [{"id": 3, "name": LABELS[0]}, {"id": 7, "name": LABELS[1]}],
        "videos": [
            {"id": video, "height": SIZE[0], "width": SIZE[1], "file_names": list(names)}
            for video, names in NAMES.items()
        ],
        "annotations": [],
    }
    for video, order in ((1, 1), (2, -1)):
        for place, (label, _) in enumerate(TRACKS):
            number = len(written["annotations"]) + 1
            drawn = masks()[::order, place]
            category = 3 if label == LABELS[0] else 7
            written["annotations"].append(annotation(number, video, category, drawn))
    return written


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Annotations beside their frames."""
    for names in NAMES.values():
        write_pictures(tmp_path / "JPEGImages", names)
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(document()))
    return path


def objects(path: Path) -> list[Any]:
    """Everything about the objects of a data set, whatever their order and ids."""
    annotations = read_annotations(path)
    names = dict(zip(annotations.labels.ids, annotations.labels.names, strict=True))
    files = {video.video_id: video.file_names for video in annotations.videos}
    return sorted(
        json.dumps([names[t.category_id], files[t.video_id], t.segmentations, t.crowd])
        for t in annotations.tracks
    )


@pytest.mark.parametrize("kind", ["coco", "mots", "mots-txt", "cvat"])
def test_there_and_back(data: Path, tmp_path: Path, kind: str) -> None:
    sent, back = tmp_path / "sent", tmp_path / "back.json"
    if kind == "coco":
        sent = sent.with_suffix(".json")
    run_visolo("data", "export", data, "--kind", kind, "-o", sent).succeeded()
    images = ("--images", data.parent / "JPEGImages")
    if kind != "cvat":
        run_visolo("data", "import", sent, "-o", back, *images).succeeded()
        assert objects(back) == objects(data)
        return
    returned = []
    for file in sorted(sent.iterdir()):  # one for each task of CVAT
        run_visolo("data", "import", file, "-o", back, *images).succeeded()
        returned += objects(back)
    assert sorted(returned) == objects(data)


@pytest.mark.parametrize("kind", ["coco", "mots", "mots-txt"])
def test_crowds_there_and_back(data: Path, tmp_path: Path, kind: str) -> None:
    """In MOTS a region to be ignored is one of every category."""
    changed = document()
    for category in (3, 7):
        number = len(changed["annotations"]) + 1
        changed["annotations"].append(annotation(number, 1, category, crowd()) | {"iscrowd": 1})
    data.write_text(json.dumps(changed))
    sent, back = tmp_path / "sent.json", tmp_path / "back.json"
    run_visolo("data", "export", data, "--kind", kind, "-o", sent).succeeded()
    images = ("--images", data.parent / "JPEGImages")
    run_visolo("data", "import", sent, "-o", back, *images).succeeded()
    assert objects(back) == objects(data)


def test_coco_is_as_cvat_reads_it(data: Path, tmp_path: Path) -> None:
    """Lengths of runs as a list, and no attribute that makes CVAT build tracks of masks."""
    run_visolo("data", "export", data, "--kind", "coco", "-o", tmp_path / "o.json").succeeded()
    written = json.loads((tmp_path / "o.json").read_text())
    for entry in written["annotations"]:
        assert isinstance(entry["segmentation"]["counts"], list)
        assert set(entry["attributes"]) == {"occluded", "track_id"}
    numbers = {entry["attributes"]["track_id"] for entry in written["annotations"]}
    assert numbers == set(range(1, 7))


def test_mots_is_as_kitti_reads_it(data: Path, tmp_path: Path) -> None:
    run_visolo("data", "export", data, "--kind", "mots", "-o", tmp_path / "o").succeeded()
    instances = tmp_path / "o/instances"
    assert (instances / "labels.txt").read_text().split() == list(LABELS)
    with Image.open(instances / "a/00002.png") as image:
        assert image.mode == "I;16"
        values = np.array(image)
    expected = np.zeros(SIZE, np.int64)
    for place, value in enumerate((1001, 2001, 1002)):
        expected[masks()[2, place]] = value
    assert np.array_equal(values, expected)


def test_cvat_is_as_its_documentation_says(data: Path, tmp_path: Path) -> None:
    run_visolo("data", "export", data, "--kind", "cvat", "-o", tmp_path / "o").succeeded()
    root = ElementTree.parse(tmp_path / "o/1.xml").getroot()
    assert root.tag == "annotations"
    assert [label.text for label in root.iterfind("meta/task/labels/label/name")] == list(LABELS)
    images = root.findall("image")
    assert [image.get("name") for image in images] == list(NAMES[1])
    assert [image.get("id") for image in images] == ["0", "1", "2"]
    shape = images[0].findall("mask")[1]
    assert shape.attrib == {
        "label": "square", "source": "file", "occluded": "0", "z_order": "0", "group_id": "2",
        "rle": "0, 4, 7, 4, 3, 8, 7, 4, 7", "left": "20", "top": "17", "width": "11", "height": "4",
    }  # fmt: skip


def refused(data: Path, kind: str, *words: str) -> None:
    output = data.parent / "out" / "o"
    output.parent.mkdir(exist_ok=True)
    run_visolo("data", "export", data, "--kind", kind, "-o", output).refused(*words)
    assert list(output.parent.iterdir()) == []


def test_what_mots_has_no_form_for(data: Path) -> None:
    changed = document()
    changed["annotations"].append(annotation(7, 1, 3, masks()[:, 0]))
    data.write_text(json.dumps(changed))
    for kind in ("mots", "mots-txt"):
        refused(data, kind, "frame 'a/00000.png' overlap, by 124 pixels", "coco or cvat")
    changed = document()
    changed["videos"][0]["file_names"] = ["a/x.png", "a/y.png", "a/z.png"]
    data.write_text(json.dumps(changed))
    refused(data, "mots-txt", "do not end in a number", "'a/x.png'")
    changed["videos"][0]["file_names"] = ["a/1.png", "a/1.jpg", "a/2.png"]
    data.write_text(json.dumps(changed))
    refused(data, "mots", "there twice")
    changed["videos"][0]["file_names"] = ["a/1.png", "../1.jpg", "a/2.png"]
    data.write_text(json.dumps(changed))
    refused(data, "mots", "leads out of")
    changed = document()
    changed["videos"][1]["file_names"] = list(NAMES[1])
    data.write_text(json.dumps(changed))
    refused(data, "mots-txt", "two videos", "'a'")
    changed = document()
    changed["categories"] += [{"id": 100 + number, "name": f"n{number}"} for number in range(80)]
    data.write_text(json.dumps(changed))
    refused(data, "mots", "64 classes", "82")
    del changed["categories"][12:]
    changed["annotations"][0]["iscrowd"] = 1
    data.write_text(json.dumps(changed))
    refused(data, "mots", "class 10", "crowds")


def test_what_xml_has_no_form_for(data: Path) -> None:
    changed = document()
    changed["categories"][0]["name"] = "a\x01"
    data.write_text(json.dumps(changed))
    refused(data, "cvat", "XML has no form for")


def test_other_wrong_uses(data: Path, tmp_path: Path) -> None:
    refused(data, "blob", "kind 'blob' is unknown")
    outcome = run_visolo("data", "export", data, "--kind", "mots", "-o", tmp_path)
    outcome.refused("exists already")


def test_names_are_written_as_xml(data: Path, tmp_path: Path) -> None:
    changed = document()
    changed["categories"][0]["name"] = 'a<b> & "c"'
    data.write_text(json.dumps(changed))
    run_visolo("data", "export", data, "--kind", "cvat", "-o", tmp_path / "o").succeeded()
    back = tmp_path / "back.json"
    images = ("--images", data.parent / "JPEGImages")
    run_visolo("data", "import", tmp_path / "o/1.xml", "-o", back, *images).succeeded()
    assert read_annotations(back).labels.names[0] == 'a<b> & "c"'
