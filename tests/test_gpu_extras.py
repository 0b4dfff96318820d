"""Extras for GPUs: which sets of versions are right. ``make wheels`` lets pip resolve them."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import packaging_hook as hook
from check_gpu_extras import SETS, Package, faults, read_report, write_stand_in
from visolo_core.distribution import CPU, GPU, GPU_EXTRAS

RIGHT = {
    12: {
        "onnxruntime-gpu": "1.26.0",
        "tensorrt-cu12": "10.16.1", "tensorrt-cu12-bindings": "10.16.1",
        "tensorrt-cu12-libs": "10.16.1", "nvidia-cuda-runtime-cu12": "12.9.79",
        "nvidia-cudnn-cu12": "9.28.0", "pycuda": "2026.1",
    },
    13: {
        "onnxruntime-gpu": "1.31.1",
        "tensorrt-cu13": "10.16.1", "tensorrt-cu13-bindings": "10.16.1",
        "tensorrt-cu13-libs": "10.16.1", "nvidia-cuda-runtime": "13.5.37", "nvidia-cublas": "13.6",
        "nvidia-cudnn-cu13": "9.28.0", "pycuda": "2026.1", "tensorrt-rtx-cu13-libs": "1.7.1",
    },
}  # fmt: skip
"""As pip resolved them in November 2026."""
ASKS = {
    "1.26.0": Requirement("nvidia-cuda-runtime-cu12~=12.0; extra == 'cuda'"),
    "1.31.1": Requirement("nvidia-cuda-runtime~=13.0; extra == 'cuda'"),
}


def packages(versions: dict[str, str]) -> list[Package]:
    return [
        Package(name, Version(version), (ASKS[version],) if name == "onnxruntime-gpu" else ())
        for name, version in versions.items()
    ]


@pytest.mark.parametrize("cuda", [12, 13])
def test_versions_that_fit(cuda: int) -> None:
    assert faults(packages(RIGHT[cuda]), cuda) == []


@pytest.mark.parametrize("cuda", [12, 13])
def test_every_package_is_needed(cuda: int) -> None:
    extra = {"nvidia-cublas", "tensorrt-cu12", "tensorrt-cu13", "tensorrt-rtx-cu13-libs"}
    for name in set(RIGHT[cuda]) - extra:
        wrong = faults(packages({k: v for k, v in RIGHT[cuda].items() if k != name}), cuda)
        assert any(name in each for each in wrong), name


@pytest.mark.parametrize(
    ("name", "version", "fault"),
    [
        ("onnxruntime", "1.32", "onnxruntime must not"),
        ("onnxruntime-gpu", "1.26.0", "onnxruntime-gpu 1.26.0 is not for CUDA 13"),
        ("nvidia-cudnn-cu12", "9.28", "nvidia-cudnn-cu12 9.28 is not for CUDA 13"),
        ("tensorrt-cu12-libs", "10.16.1", "tensorrt-cu12-libs 10.16.1 is not for CUDA 13"),
        ("nvidia-cuda-runtime", "12.9", "nvidia-cuda-runtime must be installed in version 13"),
        ("nvidia-cudnn-cu13", "8.9", "nvidia-cudnn-cu13 must be installed in version 9"),
        ("tensorrt-cu13-libs", "11.4", "tensorrt-cu13-libs must be installed in version 10"),
        ("tensorrt-cu13-libs", "10.15", "bindings and libraries differ"),
    ],
)
def test_a_package_that_does_not_fit(name: str, version: str, fault: str) -> None:
    wrong = faults(packages(RIGHT[13] | {name: version}), 13)
    assert any(fault in each for each in wrong)


@pytest.mark.parametrize("extra", GPU_EXTRAS)
def test_visolo_refuses_every_gpu_extra(extra: str) -> None:
    assert hook.dependencies(CPU)[1][extra] == [hook.REFUSE_GPU]


def test_the_gpu_extra_is_the_newest_cuda() -> None:
    extras = hook.dependencies(GPU)[1]
    assert extras["gpu"] == extras["cuda13"]
    assert {extra for name in SETS for extra in name.split(",")} <= set(extras)


def test_jetson_keeps_its_own_tensorrt() -> None:
    for name in (CPU, GPU):
        assert {Requirement(each).name for each in hook.dependencies(name)[1]["jetson"]} == {
            "pycuda"
        }


def test_a_report_is_read() -> None:
    metadata = {"name": "Some_Package", "version": "1.0", "requires_dist": ["other>=2"]}
    (package,) = read_report(json.dumps({"install": [{"metadata": metadata}]}))
    assert package == Package("some-package", Version("1.0"), (Requirement("other>=2"),))


def test_the_stand_in_gives_what_a_source_archive_says_of_itself(tmp_path: Path) -> None:
    """It takes the place of a build backend that would download gigabytes."""
    write_stand_in(tmp_path)
    (wheel,) = tmp_path.glob("wheel_stub-*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path)
    source = tmp_path / "source"
    source.mkdir()
    (source / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: libs\nVersion: 10.3\n\nText\n")
    program = "import wheel_stub.buildapi as b; print(b.prepare_metadata_for_build_wheel('..'))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=source, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "libs-10.3.dist-info"
    assert (tmp_path / "libs-10.3.dist-info/METADATA").read_text().endswith("Text\n")
