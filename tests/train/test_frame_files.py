"""Frames of a video as pictures: their names, their pixels, and what is refused."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from clips import write_video
from foreign_clip import SIZE
from foreign_files import cvat_xml, imported, polygon, written
from helpers import run_visolo
from visolo_core.errors import VisoloError
from visolo_runtime.sources.clip import Clip, Event, Skipped, SourceFrame
from visolo_train.data.frame_files import write_frames


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return write_video(tmp_path / "video.mp4", frames=8)


def test_every_third_frame(video: Path, tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    outcome = run_visolo("data", "frames", video, "-o", folder, "--every", 3).succeeded()
    assert "3 frames" in outcome.err
    names = [f"frame_{number:06}.png" for number in (0, 3, 6)]
    assert sorted(path.name for path in folder.iterdir()) == names
    with av.open(str(video)) as container:
        truth = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    for name, number in zip(names, (0, 3, 6), strict=True):
        assert np.array_equal(np.asarray(Image.open(folder / name)), truth[number])


def test_cvats_tracks_find_them(tmp_path: Path) -> None:
    """A task made from a video, exported without its pictures."""
    video = write_video(tmp_path / "video.mp4", 3, *SIZE)
    run_visolo("data", "frames", video, "-o", tmp_path / "frames").succeeded()
    track = f'<track id="0" label="square">{polygon(0)}{polygon(2, 4)}</track>'
    source = written(tmp_path / "annotations.xml", cvat_xml(track))
    annotations = imported(tmp_path, source, "--images", tmp_path / "frames")
    assert annotations.videos[0].file_names == ("frame_000000.png", "frame_000002.png")


def test_what_cannot_be_read_keeps_its_number(tmp_path: Path) -> None:
    picture = np.zeros((4, 6, 3), np.uint8)
    events: list[Event] = [
        SourceFrame(picture, 0.0),
        Skipped("frame 1 is damaged"),
        SourceFrame(picture, 0.1),
    ]
    clip = Clip(1, "some", lambda: iter(events))
    assert write_frames(clip, tmp_path / "out") == (2, ["frame 1 is damaged"])
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["frame_000000.png", "frame_000002.png"]
    nothing = Clip(1, "some", lambda: iter(events[1:2]))
    with pytest.raises(VisoloError, match="no frame that can be read"):
        write_frames(nothing, tmp_path / "nothing")
    live = Clip(1, "some", lambda: iter(events), live=True)
    with pytest.raises(VisoloError, match="is live"):
        write_frames(live, tmp_path / "nothing")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_refusals(video: Path, tmp_path: Path) -> None:
    run_visolo("data", "frames", tmp_path / "no.mp4", "-o", tmp_path / "a").refused("no.mp4")
    (tmp_path / "there").mkdir()
    run_visolo("data", "frames", video, "-o", tmp_path / "there").refused("exists already")
    run_visolo("data", "frames", video, "-o", tmp_path / "no" / "a").refused("cannot write")
    (tmp_path / "two").mkdir()
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / "two" / name).write_bytes(video.read_bytes())
    run_visolo("data", "frames", tmp_path / "two", "-o", tmp_path / "a").refused("has 2 videos")
    assert not (tmp_path / "a").exists()
