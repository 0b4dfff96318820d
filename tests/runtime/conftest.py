"""The fake GPU, and libraries and engines on it; and files that live sources send."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fake_gpu import FakeDevice, fake_tensorrt
from played_engines import load_plans
from visolo_runtime.engines.engine import Engines
from visolo_runtime.engines.tensorrt.engine import TensorRtRuntime
from visolo_runtime.engines.tensorrt.kernel_cache import KernelCache


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings, an HLS playlist with its segments, and pictures that change their size."""
    from live_runs import write_media

    folder = tmp_path_factory.mktemp("media")
    write_media(folder)
    return folder


@pytest.fixture
def device() -> FakeDevice:
    return FakeDevice()


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch, device: FakeDevice) -> TensorRtRuntime:
    monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt(device))
    return TensorRtRuntime("tensorrt", device)


@pytest.fixture
def rtx(monkeypatch: pytest.MonkeyPatch, device: FakeDevice, tmp_path: Path) -> TensorRtRuntime:
    """TensorRT-RTX, with compiled kernels kept in a file."""
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", fake_tensorrt(device, "1.7.1", rtx=True))
    return TensorRtRuntime("tensorrt-rtx", device, KernelCache(tmp_path / "kernels.cache"))


@pytest.fixture
def engines(
    runtime: TensorRtRuntime, device: FakeDevice, lite_bundle: Path, tmp_path: Path
) -> Engines:
    return load_plans(runtime, lite_bundle, tmp_path)
