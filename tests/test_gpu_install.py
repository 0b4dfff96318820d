"""Every GPU package installed on a machine without a GPU: minutes, and gigabytes of downloads.

TensorRT's libraries are left out: PyPI does not have them.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import venv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from build_distributions import build_all
from helpers import Outcome
from packaging_hook import CUDA12, CUDA13
from standin.stand_in import FOLDER
from visolo_core.errors import NotHereError
from visolo_runtime.engines.nvidia import find_driver

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
LINKED = """
import json
from pathlib import Path
import onnxruntime
from visolo_runtime.engines.onnxruntime.libraries import library_folders, needed_libraries
cuda = int(onnxruntime.cuda_version.split(".")[0])
folders = library_folders(cuda)
system = [Path("/lib/x86_64-linux-gnu"), Path("/lib64")]
capi = Path(onnxruntime.__file__).parent / "capi"
report = {"version": cuda}
for provider in ("cuda", "tensorrt"):
    needed = needed_libraries(capi / f"libonnxruntime_providers_{provider}.so") + ["libcudnn.so.9"]
    report[provider] = [
        name for name in needed if not any((each / name).is_file() for each in [*folders, *system])
    ]
print(json.dumps(report))
"""
CHOICE = """
import json, sys
from pathlib import Path
from visolo_runtime.bundle import Bundle
from visolo_runtime.engines.backends import choose
choice = choose(Bundle(Path(sys.argv[1])), "auto")
print(json.dumps([choice.engines.description, choice.passed_over]))
"""


class Environment:
    """A virtual environment with ``visolo-gpu``."""

    def __init__(self, folder: Path, *requirements: str) -> None:
        self.bin = folder / "bin"
        venv.create(folder, with_pip=True)
        build_all(folder / "dist")
        (wheel,) = (folder / "dist").glob("visolo_gpu-*.whl")
        self.install(str(wheel), *requirements)

    def install(self, *arguments: str) -> None:
        install = [str(self.bin / "python"), "-m", "pip", "install", "--quiet", "--no-cache-dir"]
        subprocess.run([*install, *arguments], check=True)

    def call(self, *command: object, status: int = 0) -> Any:
        """What a program prints, read as json."""
        outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        program, *arguments = map(str, command)
        done = subprocess.run(
            [self.bin / program, *arguments],
            capture_output=True, text=True, env=outside, check=False,
        )  # fmt: skip
        assert done.returncode == status, done.stderr
        return json.loads(done.stdout)


def without_tensorrt(extra: list[str]) -> list[str]:
    return [each for each in extra if each.startswith("onnxruntime")]


@pytest.fixture
def folder() -> Iterator[Path]:
    """Removed at once: it holds gigabytes."""
    try:
        find_driver()
    except NotHereError:
        with tempfile.TemporaryDirectory(prefix="visolo-gpu-") as folder:
            yield Path(folder)
    else:
        pytest.skip("there is a GPU here")


@pytest.fixture
def bundle(lite_weights: Path, tmp_path: Path, visolo: Callable[..., Outcome]) -> Path:
    """A model with a form for every backend that can be had here."""
    path = tmp_path / "all.visolo"
    formats = "onnx,openvino,tensorrt-rtx"
    visolo("export", lite_weights, "-o", path, "--format", formats, "--target", "sm86").succeeded()
    return path


def test_auto_takes_openvino_and_says_why_not_the_others(folder: Path, bundle: Path) -> None:
    environment = Environment(folder, *without_tensorrt(CUDA13), "openvino", "tensorrt-rtx")
    environment.install("--no-deps", "tensorrt-cu13-bindings<11")
    wheels = sorted(map(str, (FOLDER / "wheels").glob("pycuda-*.whl")))
    if wheels:  # built by make gpu-standin
        environment.install(*wheels)

    assert environment.call("python", "-c", LINKED) == {
        "version": 13,
        "cuda": ["libcuda.so.1"],
        "tensorrt": ["libnvinfer.so.10", "libnvonnxparser.so.10"],
    }
    description, passed_over = environment.call("python", "-c", CHOICE, bundle)
    reasons = dict(each.split(": ", 1) for each in passed_over)
    assert "OpenVINO" in description
    no_driver = "there is no NVIDIA driver here"
    assert list(reasons) == [
        "tensorrt", "tensorrt-rtx", "onnxruntime-tensorrt", "onnxruntime-cuda",
    ]  # fmt: skip
    assert reasons["onnxruntime-cuda"].startswith(no_driver)
    assert reasons["onnxruntime-tensorrt"].startswith(no_driver)
    assert reasons["tensorrt-rtx"].startswith(no_driver if wheels else "pycuda is not usable here")
    assert reasons["tensorrt"] == "the bundle has no tensorrt graphs"

    diagnosis = environment.call("visolo", "doctor", "--json", status=1)
    (problem,) = diagnosis["problems"]
    assert problem.startswith(no_driver)
    assert diagnosis["backends"]["onnxruntime"]["providers"] == ["CPUExecutionProvider"]
    assert not diagnosis["backends"]["tensorrt"]["usable"]


def test_what_the_last_release_for_cuda_12_links_is_installed(folder: Path) -> None:
    environment = Environment(folder, *without_tensorrt(CUDA12))
    report = environment.call("python", "-c", LINKED)
    assert report["version"] == 12
    assert report["cuda"] == []
    assert report["tensorrt"] == ["libnvinfer.so.10", "libnvonnxparser.so.10"]
