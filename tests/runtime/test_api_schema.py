"""Requests made of the schema that the server publishes, valid and not: answers keep to it."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from clips import write_video
from serving import serving
from visolo_runtime.serving.service import ServiceOptions
from visolo_runtime.session.loading import load
from visolo_runtime.sources.clip import Clip, SourceFrame
from visolo_runtime.sources.opening import open_source
from visolo_runtime.video.sample_clip import sample_frames

LIMIT_S = 240
UPLOADS = "/api/videos"


def endless() -> Clip:
    def play() -> Iterator[SourceFrame]:
        (picture,) = sample_frames(1, 96, 160)
        for number in count():
            time.sleep(0.05)
            yield SourceFrame(picture, number * 0.05)

    return Clip(1, "camera", play, live=True)


@pytest.mark.parametrize(
    ("part", "options"),
    [
        ("everything else", ["--exclude-path", UPLOADS, "--max-examples", "8"]),
        # Random bytes are what its schema allows, and are no video.
        (
            "uploads",
            [
                *("--include-path", UPLOADS, "--max-examples", "8"),
                *("--exclude-checks", "positive_data_acceptance"),
            ],
        ),
    ],
)
def test_answers_keep_to_the_schema(
    lite_bundle: Path, tmp_path: Path, part: str, options: list[str]
) -> None:
    film = write_video(tmp_path / "film.mp4", frames=60)
    (tmp_path / "records").mkdir()
    allowed = ServiceOptions(allowed_sources=(str(film),), recordings=tmp_path / "records")
    with serving(load(lite_bundle, "onnxruntime"), options=allowed, capacity=50) as served:
        (clip,) = open_source(str(film))
        served.hub.add(clip)  # soon over
        served.hub.add(endless())
        outcome = subprocess.run(
            [
                *(Path(sys.executable).parent / "schemathesis", "run"),
                *(f"{served.address}/openapi.json", "--no-color", "--generation-deterministic"),
                *("--request-timeout", "20", *options),
            ],
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
            cwd=tmp_path,
        )
    assert outcome.returncode == 0, outcome.stdout[-8000:]
    made = re.search(r"(\d+) generated", outcome.stdout)
    assert made is not None, outcome.stdout[-2000:]
    assert int(made[1]) > 10
