"""A long video costs the same at its end as at its beginning."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from clips import write_video
from outside import real_data

ROOT = Path(__file__).parents[2]


def measure(*arguments: object) -> dict[str, Any]:
    command = [sys.executable, ROOT / "benchmarks" / "constant_cost.py", *arguments]
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def test_memory_of_a_small_network(lite_bundle: Path, tmp_path: Path) -> None:
    video = write_video(tmp_path / "long.mp4", frames=122, height=120, width=200)
    report = measure(lite_bundle, video, "--record")
    assert report["frames"] == 122
    assert report["instances_a_frame"] > 1
    assert report["resident_growth_mb"] < 20


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_papers_network_on_a_real_video(paper_bundle: Path) -> None:
    video = real_data("videos/dog.mp4")
    report = measure(paper_bundle, video, "--record")
    assert report["frames"] == 289
    assert report["resident_growth_mb"] < 20
    assert report["late_over_early"] <= 1.1
    assert report["host_share"] <= 0.10
