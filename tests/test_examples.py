"""The scripts in ``examples/``, run as a user runs them."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from clips import write_folder, write_video
from visolo_runtime.models.shipped import shipped_model

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))


def command(script: str, *arguments: object) -> list[str]:
    return [sys.executable, str(EXAMPLES / script), *(str(each) for each in arguments)]


def output_of(script: str, *arguments: object, status: int = 0) -> str:
    """Standard output, or standard error where the script is expected to fail."""
    done = subprocess.run(
        command(script, *arguments), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr if status else done.stdout


def test_file_to_video(tmp_path: Path) -> None:
    source, output = write_video(tmp_path / "video.mp4", frames=6), tmp_path / "annotated.mp4"
    assert "6 frames" in output_of("file_to_video.py", shipped_model(), source, output)
    with av.open(str(source)) as before, av.open(str(output)) as after:
        pairs = zip(before.decode(video=0), after.decode(video=0), strict=True)
        changed = [
            np.abs(a.to_ndarray(format="rgb24").astype(int) - b.to_ndarray(format="rgb24")).max()
            for a, b in pairs
        ]
    assert len(changed) == 6
    assert min(changed) > 100  # a colour is laid over every frame


def test_a_video_of_odd_size(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "frames", frames=2, size=(97, 161))
    output = tmp_path / "annotated.mp4"
    assert "2 frames" in output_of("file_to_video.py", shipped_model(), source, output)
    with av.open(str(output)) as container:
        frame = next(container.decode(video=0))
    assert (frame.height, frame.width) == (96, 160)


def test_camera_loop_counts_by_label(tmp_path: Path) -> None:
    source = write_video(tmp_path / "video.mp4", frames=6)
    out = output_of("camera_loop.py", shipped_model(), source)
    assert out.startswith("frame 0: ")
    assert "disc" in out


def test_camera_loop_ends_with_ctrl_c(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "frames", frames=1)
    for number in range(1, 10_000):  # minutes of work
        (source / f"{number}.png").hardlink_to(source / "0.png")
    with subprocess.Popen(
        command("camera_loop.py", shipped_model(), source),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline().startswith("frame 0: ")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out.endswith("stopped\n")
    assert err == ""


def test_several_streams_keep_their_own_tracks(tmp_path: Path) -> None:
    first = write_video(tmp_path / "first.mp4", frames=5)
    second = write_video(tmp_path / "second.mp4", frames=3, height=120, width=200)
    together = output_of("several_streams.py", shipped_model(), first, second).splitlines()
    alone = [
        line
        for video in (first, second)
        for line in output_of("several_streams.py", shipped_model(), video).splitlines()
    ]
    assert "second.mp4, frame 2: #1" in "\n".join(together)
    assert sorted(together) == sorted(alone)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_a_missing_video_is_refused_in_a_sentence(script: Path, tmp_path: Path) -> None:
    more = [tmp_path / "out.mp4"] if script.name == "file_to_video.py" else []
    errors = output_of(script.name, shipped_model(), tmp_path / "none.mp4", *more, status=2)
    assert "none.mp4" in errors
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_examples_are_short(script: Path) -> None:
    assert len(script.read_text().splitlines()) < 60
