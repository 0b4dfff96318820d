"""Tests that need a GPU, pycuda, and TensorRT or TensorRT-RTX. ``make gpu-check`` runs them."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers import run_visolo
from visolo_core.errors import NotHereError
from visolo_runtime.engines.tensorrt.device import CudaDevice, cuda_device
from visolo_runtime.engines.tensorrt.library import import_library
from visolo_runtime.models.shipped import shipped_weights


@pytest.fixture(scope="session")
def gpu() -> CudaDevice:
    """The GPU; without one these tests fail, since they were asked for by name."""
    return cuda_device()


@pytest.fixture(scope="session")
def library() -> str:
    """TensorRT where it is installed, else TensorRT-RTX."""
    try:
        import_library("tensorrt")
        return "tensorrt"
    except NotHereError:
        return "tensorrt-rtx"


@pytest.fixture(scope="session")
def weights() -> Path:
    """The shipped small model's."""
    return shipped_weights()


@pytest.fixture(scope="session")
def bundle(
    gpu: CudaDevice, library: str, weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Engines for this GPU, and ONNX graphs."""
    return _export(gpu, library, weights, tmp_path_factory.mktemp("gpu") / "lite.visolo")


@pytest.fixture(scope="session")
def batched_engines(
    gpu: CudaDevice, library: str, weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The same, for up to four streams at once."""
    folder = tmp_path_factory.mktemp("gpu") / "batched.visolo"
    return _export(gpu, library, weights, folder, "--batch", 4)


def _export(gpu: CudaDevice, library: str, weights: Path, folder: Path, *options: object) -> Path:
    target = ("--target", gpu.architecture) if library == "tensorrt-rtx" else ()
    command = ("export", weights, "-o", folder, "--format", f"onnx,{library}")
    run_visolo(*command, *target, *options).succeeded()
    return folder
