"""Which kind of annotations a file or folder has, and which picture a name means."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from foreign_clip import write_pictures
from foreign_files import FOREIGN, coco, imported, mots_data, palette_data, written
from helpers import run_visolo
from visolo_train.importers.kinds import recognise


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("datumaro_coco.json", "coco"),
        ("label_studio.json", "label-studio"),
        ("labelme/frame_000000.json", "labelme"),
    ],
)
def test_folders_by_what_is_in_them(tmp_path: Path, name: str, kind: str) -> None:
    folder = tmp_path / "data"
    (folder / "annotations").mkdir(parents=True)
    shutil.copy(FOREIGN / name, folder / "annotations")
    assert recognise(folder) == kind


def test_folders_of_pictures(tmp_path: Path) -> None:
    source = mots_data(tmp_path / "kitti") / "instances/0003"
    shutil.copytree(source, tmp_path / "numbers")
    assert recognise(tmp_path / "numbers") == "mots"
    palette_data(tmp_path)
    assert recognise(tmp_path / "Annotations/clip") == "davis"
    written(tmp_path / "broken/a.png", "no picture")
    run_visolo("data", "import", tmp_path / "broken", "-o", "o.json").refused("cannot tell")


def test_a_folder_with_several_files_needs_the_name_of_one(pictures: Path, tmp_path: Path) -> None:
    for name in ("a.json", "b.json"):
        written(pictures / name, coco())
    arguments = ("data", "import", pictures, "-o", tmp_path / "o.json")
    run_visolo(*arguments).refused("2 json files", "'a.json'", "name the one")
    for name in ("x", "y"):
        shutil.copytree(FOREIGN / "datumaro_mots", tmp_path / "mots" / name)
    run_visolo("data", "import", tmp_path / "mots", "-o", tmp_path / "o.json").refused("name one")


def test_a_picture_is_found_in_another_folder_if_only_one_fits(tmp_path: Path) -> None:
    names = ("x/frame_000000.jpg", "x/frame_000001.jpg", "x/frame_000002.jpg")
    write_pictures(tmp_path / "images", names)
    source = written(tmp_path / "coco.json", coco())
    assert imported(tmp_path, source).videos[0].file_names == names
    write_pictures(tmp_path / "images", ("y/frame_000001.jpg",))
    arguments = ("data", "import", source, "-o", tmp_path / "o.json")
    run_visolo(*arguments).refused("'frame_000001.png' may be", "x/frame", "y/frame")
