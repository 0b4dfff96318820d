"""The figures of docs/planning.md are those that its script computes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/planning.md").read_text()


def plan(*arguments: str) -> dict[str, Any]:
    told = subprocess.run(
        [sys.executable, ROOT / "benchmarks/plan.py", *arguments, "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    answer: dict[str, Any] = json.loads(told.stdout)
    return answer


def row(begin: str) -> list[float]:
    """The numbers of a row of a table, without what is around them."""
    (line,) = [each for each in PAGE.splitlines() if each.startswith(f"| {begin}")]
    words = line.replace(",", "").replace("$", "").split("|")[2:-1]
    return [float(word) for cell in words for word in cell.split() if word[0].isdigit()]


@pytest.mark.parametrize(
    ("begin", "arguments"),
    [
        ("5 frames a second, half", []),
        ("the same at night", ["--busy", "0.1"]),
        ("all frames with something", ["--busy", "1"]),
        ("15 frames a second |", ["--fps", "15"]),
    ],
)
def test_cameras(begin: str, arguments: list[str]) -> None:
    computed = plan("cameras", *arguments)
    cores, machines, streams, money = row(begin)
    assert cores == round(computed["cores"])
    assert machines == round(computed["machines"])
    assert streams == round(computed["streams_a_machine"])
    assert money == pytest.approx(computed["money_a_month"], abs=500)


@pytest.mark.parametrize(
    ("begin", "every"), [("every fifth", "5"), ("every frame", "1"), ("a frame a second", "25")]
)
def test_archive(begin: str, every: str) -> None:
    computed = plan("archive", "--fps", "25", "--every", every)
    hours, days, read, gbit, results, money = row(begin)
    assert hours == pytest.approx(computed["core_hours"], abs=500)
    assert days == pytest.approx(computed["days_on_a_thousand_cores"], rel=0.02)
    assert read == computed["read_tb"]
    assert gbit == pytest.approx(computed["network_gbit_s_on_a_thousand_cores"], rel=0.02)
    assert results == pytest.approx(computed["results_tb"], rel=0.04)
    assert money == pytest.approx(computed["money"], rel=0.05)


def test_what_is_measured_goes_in() -> None:
    """The script's defaults are the page's numbers."""
    given = ["--full-ms", "38.7", "--empty-ms", "24.1", "--read-ms", "1.1", "--busy", ".5"]
    given += ["--stream-mb", "7.2", "--line-bytes", "745", "--core-hour", ".04", "--load", ".7"]
    assert plan("cameras", *given) == plan("cameras")
    for number in ("38.7 core ms", "24.1 core ms", "7.2 MB", "745 bytes", "$ .04", "64 cores; .7"):
        assert number in PAGE
    assert f"$ {plan('cameras')['money_a_month'] / 10_000:.2f} a camera" in PAGE
