"""The stand-in driver, engines over it, and what they are compared with."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fake_gpu import fake_tensorrt
from helpers import LIMIT_S, TINY, Outcome
from standin.stand_in import LAZY, DriverQueues, StandIn, build
from visolo_core.config import InferenceConfig
from visolo_core.contract import GRAPHS
from visolo_runtime.bundle import Bundle
from visolo_runtime.engines.engine import Engines
from visolo_runtime.engines.tensorrt.backend import TensorRtBackend
from visolo_runtime.engines.tensorrt.engine import TensorRtRuntime
from visolo_runtime.session.loading import Model, load

if TYPE_CHECKING:
    from visolo_runtime.engines.tensorrt.device import CudaDevice


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Show what waits for ever, with the stacks of all threads."""
    for item in items:
        if item.path.parent == Path(__file__).parent and item.path.stem != "test_long":
            item.add_marker(pytest.mark.timeout(2 * LIMIT_S, func_only=True))


@pytest.fixture(scope="session")
def whole_driver(tmp_path_factory: pytest.TempPathFactory) -> StandIn:
    return StandIn(build(tmp_path_factory.mktemp("driver")))


@pytest.fixture
def driver(whole_driver: StandIn) -> Iterator[StandIn]:
    """The driver as it is at first; whatever a test leaves behind or does wrong fails it."""
    gc.collect()
    before = whole_driver.live()
    whole_driver.reset(LAZY)
    yield whole_driver
    gc.collect()
    assert whole_driver.misuses() == []
    assert whole_driver.live() == before
    assert whole_driver.depth() == 0


@pytest.fixture
def device(model: Model, driver: StandIn) -> CudaDevice:
    from visolo_runtime.engines.tensorrt.device import cuda_device

    return cuda_device()


@pytest.fixture(scope="session")
def tiny_bundle(models: Path, visolo: Callable[..., Outcome]) -> Path:
    """A network of milliseconds, up to three streams together."""
    from untrained import untrained
    from visolo_core.categories import SHAPES
    from visolo_core.checkpoint_header import CheckpointHeader
    from visolo_core.nn.checkpoint import Checkpoint, save_checkpoint

    weights, path = models / "tiny.safetensors", models / "tiny.visolo"
    config = replace(TINY, backbone_width=16, classes=len(SHAPES))
    state = untrained(config).state_dict()
    save_checkpoint(weights, Checkpoint(CheckpointHeader(config, SHAPES), state))
    visolo("export", weights, "-o", path, "--batch", 3).succeeded()
    return path


@pytest.fixture(scope="session")
def model(tiny_bundle: Path) -> Model:
    """On the CPU. The network is untrained, and so are its scores."""
    opened = load(tiny_bundle, "onnxruntime", _lenient, threads=1)
    gc.collect()
    gc.freeze()  # PyTorch made the bundle, and its many objects would be looked at in every test
    return opened


def _lenient(config: InferenceConfig) -> InferenceConfig:
    return replace(config, score_threshold=0.005, update_threshold=0.0)


@pytest.fixture
def queues(driver: StandIn) -> DriverQueues:
    return DriverQueues(driver)


@pytest.fixture
def open_engines(
    device: CudaDevice,
    queues: DriverQueues,
    tiny_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Engines]:
    """Opens the tiny network's engines on the stand-in GPU."""

    def open_them(use_graphs: bool = True) -> Engines:
        monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt(queues))
        plans = {graph: tmp_path / f"{graph}.engine" for graph in GRAPHS}
        for graph, plan in plans.items():
            plan.write_bytes(str(tiny_bundle / f"{graph}.onnx").encode())
        backend = TensorRtBackend(TensorRtRuntime("tensorrt", device), plans, use_graphs)
        manifest = Bundle(tiny_bundle).manifest
        return Engines.compile(backend, manifest.contract, manifest.batch)

    return open_them
