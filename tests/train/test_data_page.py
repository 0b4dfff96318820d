"""The commands of docs/data.md about other programs, run in the order of the page."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import pytest

from clips import write_video
from foreign_clip import FRAMES, masks, write_pictures
from helpers import run_visolo
from visolo_runtime.models.shipped import shipped_model

ROOT = Path(__file__).parents[2]
FOREIGN = Path(__file__).parent / "foreign"
SECTION = "## Annotations of other programs\n"


def section() -> str:
    page = (ROOT / "docs/data.md").read_text()
    return page.partition(SECTION)[2].partition("\n## ")[0]


def test_every_command_of_the_section_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = tuple(f"frame_{number:06}.png" for number in range(FRAMES))
    write_pictures(tmp_path / "task/images", names)
    shutil.copy(FOREIGN / "datumaro_cvat.xml", tmp_path / "task/annotations.xml")
    shutil.copytree(FOREIGN / "labelme", tmp_path / "labelled_frames")
    write_pictures(tmp_path / "labelled_frames", names)
    for file in (tmp_path / "labelled_frames").glob("*.json"):  # no polygon over a mask, for MOTS
        document = json.loads(file.read_text())
        document["shapes"] = [each for each in document["shapes"] if each["mask"]]
        file.write_text(json.dumps(document))
    shutil.copytree(shipped_model(), tmp_path / "model.visolo")
    write_video(tmp_path / "video.mp4", frames=2)
    monkeypatch.chdir(tmp_path)
    lines = [line for line in section().splitlines() if line.startswith("visolo ")]
    assert len(lines) == 7
    for line in lines:
        run_visolo(*shlex.split(line)[1:]).succeeded()
    tracks = json.loads(Path("instances.json").read_text())["annotations"]
    assert len(tracks) == masks().shape[1]
    for written in ("coco.json", "for_cvat/1.xml", "for_mots/instances", "annotations.xml"):
        assert Path(written).exists()


def test_the_table_has_every_kind() -> None:
    from visolo_train.importers.kinds import KINDS

    rows = [line.split("|")[1].strip(" `") for line in section().splitlines() if line[:2] == "| "]
    assert rows[1:] == list(KINDS)
