"""Label sets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from visolo_core.categories import COCO, LABEL_SETS, find_labels, labels_for_class_count
from visolo_core.errors import VisoloError


def test_sizes_and_corners() -> None:
    assert {name: len(labels) for name, labels in LABEL_SETS.items()} == {
        "ytvis2019": 40, "ytvis2021": 40, "ovis": 25, "coco": 80, "shapes": 6,
        "everyday": 7,
    }  # fmt: skip
    assert (COCO.ids[-1], COCO.names[-1]) == (90, "toothbrush")
    assert dict(zip(COCO.ids, COCO.names, strict=True))[13] == "stop sign"


def test_by_class_count() -> None:
    assert labels_for_class_count(40).name == "ytvis2019"
    assert labels_for_class_count(80).name == "coco"
    assert labels_for_class_count(3).names == ("class 1", "class 2", "class 3")
    # Official weights never have the classes of our own sets: seven classes could be any seven.
    assert labels_for_class_count(7).name == "unnamed"


def test_from_a_json_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"categories": [{"id": 7, "name": "b"}, {"id": 2, "name": "a"}]}))
    labels = find_labels(str(path))
    assert (labels.name, labels.ids, labels.names) == ("mine", (2, 7), ("a", "b"))


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"categories": [{"id": 1}]}', '{"categories": []}',
             '{"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}'],
)  # fmt: skip
def test_unusable_files(tmp_path: Path, text: str) -> None:
    path = tmp_path / "labels.json"
    path.write_text(text)
    with pytest.raises(VisoloError):
        find_labels(str(path))


def test_unknown_names() -> None:
    with pytest.raises(VisoloError, match="ytvis2021"):
        find_labels("ytvis2020")
    with pytest.raises(VisoloError, match="cannot read"):
        find_labels("nowhere.json")
