"""Tracks of a run as CVAT's XML: what comes back from it is what the run found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from PIL import Image

from clips import write_video
from helpers import run_visolo
from visolo_runtime.models.shipped import shipped_model
from visolo_runtime.video.sample_clip import sample_frames

FRAMES = 4


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames of the generated clip as files."""
    folder = tmp_path_factory.mktemp("pictures") / "clip"
    folder.mkdir()
    for number, frame in enumerate(sample_frames(FRAMES)):
        Image.fromarray(frame).save(folder / f"shot {number}.png")
    return folder


def run(*arguments: object) -> None:
    run_visolo("run", shipped_model(), *arguments).succeeded()


def found(results: list[Any]) -> list[str]:
    """Categories and masks, in any order, of tracks that are somewhere."""
    return sorted(
        json.dumps([each["category_id"], each["segmentations"]])
        for each in results
        if any(each["segmentations"])
    )


def test_a_run_and_its_import_say_the_same(pictures: Path, tmp_path: Path) -> None:
    xml, results, back = (tmp_path / name for name in ("r.xml", "r.json", "back.json"))
    run(pictures, "--results", results)
    run(pictures, "--results", xml, "--format", "cvat")
    run_visolo(
        "data", "import", xml, "-o", back, "--images", pictures, "--empty-frames"
    ).succeeded()
    imported = json.loads(back.read_text())
    assert imported["videos"][0]["file_names"] == [f"shot {n}.png" for n in range(FRAMES)]
    expected = found(json.loads(results.read_text()))
    assert len(expected) > 0
    assert found(imported["annotations"]) == expected


def test_frames_of_a_video_are_named_as_in_cvat(tmp_path: Path) -> None:
    write_video(tmp_path / "video.mp4", frames=3)
    run(tmp_path / "video.mp4", "--results", tmp_path / "r.xml", "--format", "cvat")
    root = ElementTree.parse(tmp_path / "r.xml").getroot()
    images = root.findall("image")
    assert [(image.get("id"), image.get("name")) for image in images] == [
        ("0", "frame_000000"),
        ("1", "frame_000001"),
        ("2", "frame_000002"),
    ]
    assert {mask.get("source") for mask in root.iter("mask")} == {"auto"}


def test_several_clips_are_a_file_each(pictures: Path, tmp_path: Path) -> None:
    """Ids are those of the run."""
    run(pictures, pictures, "--results", tmp_path / "out", "--format", "cvat")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["1.xml", "2.xml"]
    assert (tmp_path / "out/1.xml").read_bytes() == (tmp_path / "out/2.xml").read_bytes()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--format", "blob", "--results", "r.xml"], "choose from ytvis, cvat"),
        (["--format", "cvat"], "needs --results"),
        (["--format", "cvat", "--results", "r.xml", "--output-size", "9x9"], "--output-size"),
        (["--format", "cvat", "--results", "no/r.xml"], "cannot write 'no/r.xml'"),
    ],
)
def test_refusals(
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    run_visolo("run", shipped_model(), pictures, *options).refused(words)
    assert list(tmp_path.iterdir()) == []
