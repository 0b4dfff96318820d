"""``visolo doctor``."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from helpers import Outcome
from visolo_runtime.doctor import BackendCheck, find_problems

Visolo = Callable[..., Outcome]


def test_this_machine_is_fine(visolo: Visolo) -> None:
    report = visolo("doctor", "--json").succeeded().json()
    assert report["backends"]["onnxruntime"]["usable"]
    assert "CPUExecutionProvider" in report["backends"]["onnxruntime"]["providers"]
    assert report["packages"]["numpy"]
    assert report["problems"] == []
    assert "no problems found" in visolo("doctor").succeeded().out


def test_two_onnx_runtimes_are_a_problem(visolo: Visolo, monkeypatch: pytest.MonkeyPatch) -> None:
    both = {"onnxruntime": "1.31.1", "onnxruntime-gpu": "1.31.0"}
    monkeypatch.setattr("visolo_runtime.doctor.installed_runtimes", lambda: both)
    outcome = visolo("doctor", "--json")
    assert outcome.status == 1
    first, *_ = outcome.json()["problems"]
    assert "onnxruntime and onnxruntime-gpu are installed together" in first
    assert "pip uninstall -y onnxruntime onnxruntime-gpu" in first
    assert "pip install onnxruntime-gpu" in first


def test_both_distributions_are_one_problem() -> None:
    """One command mends them and the two ONNX Runtimes that they brought."""
    started = BackendCheck(usable=True, detail="", providers=("CUDAExecutionProvider",))
    runtimes = {"onnxruntime": "1.31.1", "onnxruntime-gpu": "1.31.0"}
    (problem,) = find_problems(["visolo", "visolo-gpu"], runtimes, started)
    assert "visolo and visolo-gpu are installed together" in problem
    assert "pip uninstall -y visolo visolo-gpu onnxruntime onnxruntime-gpu" in problem
    assert problem.endswith("pip install visolo-gpu")


@pytest.mark.parametrize(
    ("distribution", "runtime"), [("visolo", "onnxruntime"), ("visolo-gpu", "onnxruntime-gpu")]
)
def test_no_engine_is_a_problem(distribution: str, runtime: str) -> None:
    missing = BackendCheck(usable=False, detail="No module named 'onnxruntime'", providers=())
    (problem,) = find_problems([distribution], {}, missing)
    assert problem.endswith(f"pip install {runtime}")


def test_a_gpu_runtime_that_does_not_start_is_a_problem() -> None:
    on_cpu = BackendCheck(usable=True, detail="", providers=("CPUExecutionProvider",))
    (problem,) = find_problems(["visolo-gpu"], {"onnxruntime-gpu": "1.31"}, on_cpu)
    assert "CUDA provider does not start" in problem
