"""What installing brings, and that the two ONNX Runtimes cannot meet."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def hook() -> Any:
    spec = importlib.util.spec_from_file_location("packaging_hook", ROOT / "packaging_hook.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def names(requirements: list[str]) -> set[str]:
    return {Requirement(each).name for each in requirements}


def test_the_base_install_has_no_pytorch(hook: Any) -> None:
    base, extras = hook.dependencies(gpu=False)
    assert names(base) == {
        "numpy", "pillow", "av", "pycocotools", "pydantic", "typer", "rich", "threadpoolctl",
        "onnxruntime",
    }  # fmt: skip
    assert set(extras) == {
        "export", "train", "gpu", "openvino", "rtx", "identity", "docs", "dev",
    }  # fmt: skip


def test_no_combination_of_extras_brings_both_runtimes(hook: Any) -> None:
    for gpu in (False, True):
        base, extras = hook.dependencies(gpu)
        everything = names(base).union(*(names(group) for group in extras.values()))
        assert len(everything & {"onnxruntime", "onnxruntime-gpu"}) == 1


def test_the_gpu_extra_of_the_cpu_build_cannot_be_resolved_and_says_why(hook: Any) -> None:
    base, extras = hook.dependencies(gpu=False)
    wanted = next(Requirement(each) for each in base if each.startswith("onnxruntime"))
    refused = Requirement(extras["gpu"][0])
    assert refused.name == wanted.name
    (pin,) = refused.specifier
    assert pin.version not in wanted.specifier
    assert "VISOLO_GPU" in pin.version


def test_the_gpu_build_brings_the_gpu_packages(hook: Any) -> None:
    base, extras = hook.dependencies(gpu=True)
    assert "onnxruntime-gpu" in names(base)
    assert names(extras["gpu"]) == {"tensorrt", "pycuda"}


def test_no_room_takes_a_common_name() -> None:
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    packages = {Path(path).name for path in wheel["targets"]["wheel"]["packages"]}
    assert packages == {"visolo", "visolo_core", "visolo_runtime", "visolo_export", "visolo_train"}


def test_module_entry_point() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "visolo", "--version"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.startswith("visolo ")
