"""Pictures and text with numbers of objects: DAVIS, YouTube-VOS and MOTS."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from foreign_clip import FRAMES, SIZE, masks, write_pictures
from foreign_files import (
    ignored,
    imported,
    mots_data,
    mots_lines,
    palette_data,
    same_objects,
    truth,
    write_palette,
    written,
    youtube_vos,
)
from helpers import run_visolo
from visolo_train.importers.kinds import recognise


@pytest.mark.parametrize("inner", ["", "480p"])
def test_davis(tmp_path: Path, inner: str) -> None:
    """255 is of no object, and a frame without a palette picture is left out."""
    palette_data(tmp_path / "DAVIS", inner)
    assert recognise(tmp_path / "DAVIS") == "davis"
    annotations = imported(tmp_path, tmp_path / "DAVIS", "--category", "thing")
    same_objects(annotations, list(truth().values()))
    assert annotations.labels.names == ("thing",)
    assert len(annotations.videos[0].file_names) == FRAMES
    named = imported(tmp_path, tmp_path / "DAVIS" / "Annotations" / inner)
    same_objects(named, list(truth().values()))


def test_davis_2016_has_one_object_of_255(tmp_path: Path) -> None:
    folder = tmp_path / "DAVIS"
    for frame in range(FRAMES):
        indices = np.where(masks()[frame, 0], 255, 0)
        write_palette(folder / "Annotations/clip" / f"{frame:05}.png", indices, "L")
    names = tuple(f"clip/{frame:05}.jpg" for frame in range(FRAMES))
    write_pictures(folder / "JPEGImages", names)
    same_objects(imported(tmp_path, folder), [masks()[:, 0]])


def test_davis_in_two_resolutions(tmp_path: Path) -> None:
    palette_data(tmp_path, "480p")
    palette_data(tmp_path, "1080p")
    arguments = ("data", "import", tmp_path, "-o", tmp_path / "o.json")
    run_visolo(*arguments).refused("1080p and 480p: name one")


def test_youtube_vos(tmp_path: Path) -> None:
    meta = youtube_vos(tmp_path / "train")
    assert recognise(meta) == recognise(meta.parent) == "youtube-vos"
    annotations = imported(tmp_path, meta.parent)
    same_objects(annotations, list(truth().values()))
    names = [annotations.labels.names[track.category_id - 1] for track in annotations.tracks]
    assert names == ["disc", "square", "disc"]


def test_kitti_mots(tmp_path: Path) -> None:
    """A region to be ignored is a crowd of every class."""
    source = mots_data(tmp_path / "kitti")
    assert recognise(source) == recognise(source / "instances") == "mots"
    annotations = imported(tmp_path, source)
    assert annotations.labels.names == ("car", "pedestrian")
    objects = tuple(track for track in annotations.tracks if not track.crowd)
    same_objects(replace(annotations, tracks=objects), list(truth().values()))
    crowds = [track for track in annotations.tracks if track.crowd]
    assert sorted(track.category_id for track in crowds) == [1, 2]
    for crowd in crowds:
        same_objects(replace(annotations, tracks=(crowd,)), [ignored()])


def test_mots_text(tmp_path: Path) -> None:
    """A picture without a line is a frame without an object."""
    write_pictures(
        tmp_path / "image_02", tuple(f"0003/{frame:06}.png" for frame in range(FRAMES + 1))
    )
    source = written(tmp_path / "instances_txt/0003.txt", "\n".join(mots_lines()) + "\n")
    assert recognise(source) == recognise(source.parent) == "mots-txt"
    expected = [np.concatenate([each, np.zeros((1, *SIZE), bool)]) for each in truth().values()]
    for named in (source, source.parent):
        same_objects(imported(tmp_path, named), expected)


def test_mots_challenge_calls_every_text_gt(tmp_path: Path) -> None:
    names = tuple(f"{frame:06}.jpg" for frame in range(FRAMES))
    write_pictures(tmp_path / "MOTS20-02/img1", names)
    source = written(tmp_path / "MOTS20-02/gt/gt.txt", "\n".join(mots_lines()))
    same_objects(imported(tmp_path, source), list(truth().values()))


def test_mots_text_needs_a_number_and_a_folder_for_each_video(tmp_path: Path) -> None:
    write_pictures(tmp_path / "images", ("a1.png", "b1.png"))
    line = mots_lines()[0]
    source = written(tmp_path / "one.txt", line)
    arguments = ("data", "import", source, "-o", tmp_path / "o.json")
    run_visolo(*arguments).refused("'a1.png' and 'b1.png'", "are both frame 1")
    written(tmp_path / "two.txt", line)
    outcome = run_visolo("data", "import", tmp_path, "-o", tmp_path / "o.json")
    outcome.refused("no folder", "one")
