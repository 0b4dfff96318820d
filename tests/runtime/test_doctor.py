"""``visolo doctor``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path

import pytest

from helpers import Outcome
from visolo_core import distribution
from visolo_core.distribution import pip_install
from visolo_core.errors import NotHereError
from visolo_runtime.diagnosis import BackendCheck, DriverCheck
from visolo_runtime.engines.nvidia import Driver, Gpu
from visolo_runtime.engines.tensorrt import library
from visolo_runtime.installation import find_problems, idle_gpu

Visolo = Callable[..., Outcome]
GPU = Gpu("RTX 4070", "sm89", 12_000_000_000)
NEW, OLD = (DriverCheck(Driver(cuda, (GPU,))) for cuda in ((13, 0), (12, 4)))
NONE = DriverCheck(None, "there is no NVIDIA driver here: install it")
PROVIDERS = ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider")
STARTED = BackendCheck(usable=True, detail="", providers=PROVIDERS)
ON_CPU = BackendCheck(usable=True, detail="", providers=PROVIDERS[2:])
USABLE, UNUSABLE = BackendCheck(usable=True, detail=""), BackendCheck(usable=False, detail="")
RUNTIME = {"onnxruntime-gpu": "1.31.1"}
PACKAGES = {"tensorrt-cu13": "10.16.1", "pycuda": "2026.1", "nvidia-cudnn-cu13": "9.28"}


def problems(
    distributions: tuple[str, ...] = ("visolo-gpu",),
    runtimes: Mapping[str, str] = RUNTIME,
    packages: Mapping[str, str | None] = PACKAGES,
    nvidia: DriverCheck = NEW,
    onnxruntime: BackendCheck = STARTED,
    tensorrt: BackendCheck = USABLE,
) -> tuple[str, ...]:
    """Of a machine with a GPU on which everything is right but for the arguments."""
    backends = {
        "onnxruntime": onnxruntime, "tensorrt": tensorrt, "tensorrt-rtx": UNUSABLE,
        "torch": UNUSABLE,
    }  # fmt: skip
    return find_problems(distributions, runtimes, {**packages, **runtimes}, nvidia, backends)


def test_this_machine_is_fine(visolo: Visolo) -> None:
    report = visolo("doctor", "--json").succeeded().json()
    assert report["backends"]["onnxruntime"]["usable"]
    assert "CPUExecutionProvider" in report["backends"]["onnxruntime"]["providers"]
    assert report["packages"]["numpy"]
    assert report["problems"] == []
    assert bool(report["nvidia"]["gpus"]) != bool(report["nvidia"]["fault"])
    assert "no problems found" in visolo("doctor").succeeded().out


def test_a_gpu_set_up_can_be_fine() -> None:
    assert problems() == ()


def test_a_machine_without_a_gpu_is_fine_if_nothing_needs_one() -> None:
    without = {"tensorrt-rtx": "1.7"}
    assert problems(("visolo",), {"onnxruntime": "1.32"}, without, NONE, ON_CPU, UNUSABLE) == ()


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
    both = {"onnxruntime": "1.31.1", "onnxruntime-gpu": "1.31.0"}
    (problem,) = problems(("visolo", "visolo-gpu"), both, onnxruntime=ON_CPU)
    assert "visolo and visolo-gpu are installed together" in problem
    assert "pip uninstall -y visolo visolo-gpu onnxruntime onnxruntime-gpu" in problem
    assert problem.endswith("pip install visolo-gpu")


def test_the_cpus_onnx_runtime_in_place_of_the_gpus() -> None:
    (problem,) = problems(runtimes={"onnxruntime": "1.32"}, onnxruntime=ON_CPU)
    assert "onnxruntime is installed in place of onnxruntime-gpu" in problem
    assert problem.endswith("pip uninstall -y onnxruntime && pip install onnxruntime-gpu")


@pytest.mark.parametrize(
    ("distribution", "runtime"), [("visolo", "onnxruntime"), ("visolo-gpu", "onnxruntime-gpu")]
)
def test_no_engine_is_a_problem(distribution: str, runtime: str) -> None:
    missing = BackendCheck(usable=False, detail="No module named 'onnxruntime'", providers=())
    (problem,) = problems((distribution,), {}, {}, NONE, missing)
    assert problem.endswith(f"pip install {runtime}")


def test_no_driver() -> None:
    """Nothing else is said: everything else follows from it."""
    refused = BackendCheck(True, "", PROVIDERS[2:], {"CUDAExecutionProvider": NONE.fault})
    assert problems(nvidia=NONE, onnxruntime=refused, tensorrt=UNUSABLE) == (NONE.fault,)


def test_a_driver_that_is_too_old() -> None:
    (problem,) = problems(nvidia=OLD, onnxruntime=ON_CPU, tensorrt=UNUSABLE)
    assert "supports CUDA 12.4 and onnxruntime-gpu needs CUDA 13" in problem
    assert "update the driver to 580 or later, or run pip install 'visolo-gpu[cuda12]'" in (
        problem.replace("pip uninstall -y visolo onnxruntime && ", "")
    )
    cuda12 = {"tensorrt-cu12": "10.16.1", "pycuda": "2026.1"}
    assert problems(runtimes={"onnxruntime-gpu": "1.26.0"}, packages=cuda12, nvidia=OLD) == ()


@pytest.mark.parametrize("name", ["tensorrt", "nvidia-cudnn"])
def test_packages_for_two_cudas(name: str) -> None:
    both = {f"{name}-cu12": "1", f"{name}-cu13": "1"}
    (problem,) = problems(packages=PACKAGES | both)
    assert f"{name}-cu12 and {name}-cu13 are installed together" in problem
    assert problem.endswith(f"pip uninstall -y {name}-cu12 {name}-cu13 && pip install {name}-cu13")


def test_a_package_for_another_cuda_than_onnx_runtime() -> None:
    (problem,) = problems(packages={"tensorrt-cu12": "10.16.1", "pycuda": "2026.1"})
    assert "onnxruntime-gpu 1.31.1 is for CUDA 13 and tensorrt-cu12 is not" in problem
    assert "pip uninstall -y tensorrt-cu12" in problem
    assert problem.endswith("pip install 'visolo-gpu[cuda13]'")


@pytest.mark.parametrize("refused", [{"CUDAExecutionProvider": "no libcublas: run this"}, {}])
def test_a_cuda_provider_that_does_not_start(refused: dict[str, str]) -> None:
    on_cpu = BackendCheck(True, "", PROVIDERS[2:], refused)
    (problem,) = problems(onnxruntime=on_cpu)
    assert problem == refused.get("CUDAExecutionProvider", problem)
    assert "run this" in problem or "check the driver, CUDA and cuDNN" in problem


def test_no_libnvinfer() -> None:
    reason = "it cannot use tensorrt without libnvinfer.so.10: run this"
    without = BackendCheck(True, "", PROVIDERS[1:], {"TensorrtExecutionProvider": reason})
    assert problems(onnxruntime=without) == (reason,)
    assert problems(packages={"pycuda": "2026.1"}, onnxruntime=without) == ()


@pytest.mark.parametrize("reason", ["pycuda is not usable here: run this", "tensorrt is not ..."])
def test_tensorrt_that_does_not_start(reason: str) -> None:
    assert problems(tensorrt=BackendCheck(usable=False, detail=reason)) == (reason,)


def test_a_gpu_that_nothing_uses_is_named() -> None:
    backends = dict.fromkeys(("tensorrt", "tensorrt-rtx", "torch"), UNUSABLE)
    (note,) = idle_gpu(NEW, backends | {"onnxruntime": ON_CPU})
    assert "nothing here uses RTX 4070" in note
    assert "visolo-gpu[gpu]" in note
    assert idle_gpu(NEW, backends | {"onnxruntime": STARTED}) == ()
    assert idle_gpu(NEW, backends | {"onnxruntime": ON_CPU, "torch": USABLE}) == ()
    assert idle_gpu(NONE, backends | {"onnxruntime": ON_CPU}) == ()


@pytest.mark.parametrize(
    ("installed", "jetson", "extra"),
    [
        ({}, False, "visolo-gpu[gpu]"),
        ({"onnxruntime-gpu": "1.31.1"}, False, "visolo-gpu[gpu]"),
        ({"onnxruntime-gpu": "1.26.0"}, False, "visolo-gpu[cuda12]"),
        ({}, True, "visolo[jetson]"),
    ],
)
def test_the_extra_that_fits_the_machine(
    installed: dict[str, str], jetson: bool, extra: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def version(name: str) -> str:
        if name not in installed:
            raise metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setattr(distribution, "installed_distribution", lambda: "visolo")
    release = tmp_path / "nv_tegra_release"
    if jetson:
        release.touch()
    monkeypatch.setattr(distribution, "JETSON_RELEASE", release)
    assert pip_install("gpu").endswith(f"pip install '{extra}'")


def test_tensorrt_comes_from_the_system_on_jetson(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "JETSON_RELEASE", tmp_path)
    monkeypatch.setattr(library, "import_module", lambda name: __import__("no_tensorrt"))
    with pytest.raises(NotHereError, match="apt install python3-libnvinfer"):
        library.import_library("tensorrt")
