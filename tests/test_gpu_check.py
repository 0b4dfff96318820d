"""``make gpu-check`` with stand-in programs: what it runs, says at the end, and how it fails."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from visolo_runtime.doctor import _PACKAGES

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / ".ci" / "gpu-check"
STEPS = (
    "doctor", "test_device", "test_engines", "test_onnxruntime", "test_torch", "fps.py",
    "gpu_speed", "torch_speed",
)  # fmt: skip
DOCTOR = """Linux, 16 cores, Python 3.12

NVIDIA
  driver             supports CUDA 13.0
  GPU 0              NVIDIA H100 80GB HBM3, sm90, 85 GB

packages
  visolo             -
  visolo-gpu         0.1.0
  torchvision        0.29.1
  torch              2.14.1
  pycuda             2026.1

backends
  tensorrt           yes  10.16.1

no problems found"""
TABLE = "a clip\n\n| backend | FPS |\n|---|---|\n| onnxruntime-cuda | 300.0 |\n\nnone left"
PROGRAM = """#!/bin/sh
echo "ran $0 $@"
case "$*" in
    doctor) cat "$(dirname "$0")/doctor.txt";;
    *fps.py*|*_speed*) cat "$(dirname "$0")/table.txt";;
esac
case "$*" in *FAILING*) exit 3;; esac
case "$*" in *SLOW*) sleep 30;; esac
"""


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """Stand-ins of ``visolo`` and ``python``, all of whose calls succeed."""
    (tmp_path / "doctor.txt").write_text(DOCTOR)
    (tmp_path / "table.txt").write_text(TABLE)
    write(tmp_path)
    return tmp_path


def write(folder: Path, failing: str = "nothing", slow: str = "nothing") -> None:
    for name in ("visolo", "python"):
        path = folder / name
        path.write_text(PROGRAM.replace("FAILING", failing).replace("SLOW", slow))
        path.chmod(0o755)


def run(programs: Path, script: Path = SCRIPT) -> tuple[int, str, str]:
    """Exit status, everything printed, and the summary."""
    done = subprocess.run([script, programs], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout, done.stdout.partition("== summary\n")[2]


def test_everything_passes(programs: Path) -> None:
    status, out, summary = run(programs)
    assert status == 0
    assert all(re.search(rf"^ran .*{step}", out, re.M) for step in STEPS)
    assert len(re.findall(r"^ +\d+ s  .*passed$", summary, re.M)) == len(STEPS)


def test_the_summary_fits_a_screen_and_has_the_card_versions_and_speed(programs: Path) -> None:
    _, _, summary = run(programs)
    lines = summary.splitlines()
    assert len(lines) <= 30
    assert max(map(len, lines)) <= 100
    assert "driver supports CUDA 13.0" in lines
    assert "GPU 0 NVIDIA H100 80GB HBM3, sm90, 85 GB" in lines
    assert "visolo-gpu 0.1.0, torch 2.14.1, pycuda 2026.1" in lines
    assert lines.count("| onnxruntime-cuda | 300.0 |") == 3
    assert "none left" not in lines


@pytest.mark.parametrize("failing", STEPS)
def test_it_goes_on_after_a_failure_and_fails_at_the_end(programs: Path, failing: str) -> None:
    write(programs, failing)
    status, out, summary = run(programs)
    assert status == 1
    assert out.count("\nran ") == len(STEPS)
    assert summary.count("FAILED") == 1
    assert summary.count("passed") == len(STEPS) - 1


def test_a_step_that_spends_its_budget_is_ended_and_fails(programs: Path, tmp_path: Path) -> None:
    write(programs, slow="test_engines")
    folder = tmp_path / ".ci"
    folder.mkdir()
    impatient = folder / "gpu-check"
    impatient.write_text(re.sub(r"budget=\d+", "budget=1", SCRIPT.read_text()))
    impatient.chmod(0o755)
    status, _, summary = run(programs, impatient)
    assert status == 1
    assert re.search(r"^ +\d s  TensorRT engines .*FAILED, not done in 1 s$", summary, re.M)
    assert summary.count("passed") == len(STEPS) - 1


def test_all_budgets_together_are_less_than_ten_minutes() -> None:
    budgets = list(map(int, re.findall(r"budget=(\d+)", SCRIPT.read_text())))
    assert len(budgets) == len(STEPS)
    assert sum(budgets) < 600


def test_what_it_reads_from_doctor_is_what_doctor_prints() -> None:
    from visolo.commands import doctor

    assert {"visolo-gpu", "tensorrt", "pycuda", "torch"} <= set(_PACKAGES)
    source = Path(doctor.__file__).read_text()
    assert all(heading in source for heading in ("NVIDIA", "packages", "backends"))


def test_the_speed_of_pytorch_as_far_as_a_cpu_goes(capsys: pytest.CaptureFixture[str]) -> None:
    """The script itself, on the smallest amount of work: a table with a row for each case."""
    from benchmarks.torch_speed import main

    amount = "--network lite --streams 1 2 --steps 1 --warm-up 1 --device cpu --seconds 0"
    main(amount.split())
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("PyTorch ")
    assert "no time to compile lite in fp32: give more --seconds" in lines
    rows = [line for line in lines if line.startswith("| lite | fp32 |")]
    assert [re.sub(r"\d+\.\d", "FPS", row) for row in rows] == [
        "| lite | fp32 | 1 | FPS | - | - | - |",
        "| lite | fp32 | 2 | FPS | - | - | - |",
    ]


def test_the_speed_of_pytorch_for_a_card(capsys: pytest.CaptureFixture[str]) -> None:
    """What the table says where everything was measured, and what is predicted."""
    from benchmarks.torch_speed import TORCH_PRECISIONS, WAYS, Case, prediction, print_table

    predicted = prediction("lite", "NVIDIA H100 80GB HBM3")
    assert 100 < float(predicted) < 10_000
    assert prediction("lite", "Voodoo 2") == "-"
    cases = [Case("lite", p, s, way) for p in TORCH_PRECISIONS for s in (1, 8) for way in WAYS]
    print_table(dict.fromkeys(cases, 100.0), {"lite": predicted})
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "| network | precision | streams | " + " | ".join(WAYS) + " | predicted |"
    assert lines[3] == "| lite | fp32 | 1 | 100.0 | 100.0 | 100.0 | - |"
    assert lines[5] == f"| lite | fp16 | 1 | 100.0 | 100.0 | 100.0 | {predicted} |"
    assert len(lines) == 7


def test_random_weights_are_as_good_for_the_speed() -> None:
    """The paper's network, built and run once, without a GPU."""
    from benchmarks.torch_speed import checkpoint_of

    checkpoint = checkpoint_of("r50")
    assert checkpoint.header.config.backbone == "resnet50"
    assert len(checkpoint.header.labels.names) == checkpoint.header.config.classes
    checkpoint.build()
