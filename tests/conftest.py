"""Models and golden results that many tests share; each is created once."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import skips
from golden_units import GoldenUnits
from helpers import GoldenSet, Outcome, run_visolo
from outside import whole_golden_set
from visolo_runtime.engines.openvino.library import hide_reports


def pytest_configure(config: pytest.Config) -> None:
    """In CI, fail on skips that are not listed; and what a test imports reports nothing."""
    skips.install(config)
    hide_reports()


@pytest.fixture(scope="session")
def golden_folder() -> Path:
    """The whole golden set."""
    return whole_golden_set()


@pytest.fixture(scope="session")
def golden_units() -> GoldenUnits:
    """The committed part of the golden units."""
    return GoldenUnits.committed()


@pytest.fixture(scope="session")
def evaluator_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``gt.json``, ``results.json``, and the official evaluator's figures in ``expected.json``."""
    folder = tmp_path_factory.mktemp("evaluator")
    for packed in (Path(__file__).parent / "golden" / "evaluator").glob("*.json.gz"):
        (folder / packed.stem).write_bytes(gzip.decompress(packed.read_bytes()))
    return folder


@pytest.fixture(scope="session")
def small_golden() -> GoldenSet:
    """The committed part of golden set A."""
    return GoldenSet.committed()


@pytest.fixture(scope="session", params=["committed", "whole"])
def golden(request: pytest.FixtureRequest) -> GoldenSet:
    """Golden set A: the committed part and, if available, the whole."""
    if request.param == "committed":
        return GoldenSet.committed()
    return GoldenSet.whole(request.getfixturevalue("golden_folder"))


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder for the models of this run."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def lite_weights(models: Path) -> Path:
    """An untrained lite network with six classes, shrunk further to keep tests fast."""
    from untrained import untrained
    from visolo_core.categories import SHAPES
    from visolo_core.checkpoint_header import CheckpointHeader
    from visolo_core.config import LITE
    from visolo_core.nn.checkpoint import Checkpoint, save_checkpoint

    config = replace(
        LITE,
        backbone_width=16,
        width=32,
        mask_width=16,
        groups=4,
        classes=len(SHAPES),
        input_size=(96, 160),
    )
    path = models / "lite.safetensors"
    save_checkpoint(
        path, Checkpoint(CheckpointHeader(config, SHAPES), untrained(config).state_dict())
    )
    return path


@pytest.fixture(scope="session")
def lite_bundle(models: Path, lite_weights: Path, visolo: Callable[..., Outcome]) -> Path:
    """The small network as a bundle."""
    path = models / "lite.visolo"
    visolo("export", lite_weights, "-o", path).succeeded()
    return path


@pytest.fixture(scope="session")
def batched_bundle(models: Path, lite_weights: Path, visolo: Callable[..., Outcome]) -> Path:
    """The small network for up to three streams together, in the formats that a CPU runs."""
    path = models / "batched.visolo"
    formats = "onnx,openvino,torchscript,pt2"
    visolo("export", lite_weights, "-o", path, "--batch", 3, "--format", formats).succeeded()
    return path


@pytest.fixture(scope="session")
def official_checkpoint(models: Path, small_golden: GoldenSet) -> Path:
    """The golden weights as an official checkpoint: 333 keys, 24 aliases, optimiser state."""
    import torch

    weights = {name: torch.from_numpy(array) for name, array in small_golden.weights().items()}
    aliases = {
        name.replace("model.Tracking_branch", "tracking_module"): tensor
        for name, tensor in weights.items()
        if name.startswith("model.Tracking_branch")
    }
    path = models / "official.pth"
    torch.save({"model": weights | aliases, "iteration": 139999, "optimizer": {"state": {}}}, path)
    return path


@pytest.fixture(scope="session")
def paper_weights(models: Path, official_checkpoint: Path, visolo: Callable[..., Outcome]) -> Path:
    """The golden weights, converted from the official checkpoint."""
    path = models / "paper.safetensors"
    visolo("convert", official_checkpoint, "-o", path).succeeded()
    return path


@pytest.fixture(scope="session")
def paper_bundle(models: Path, paper_weights: Path, visolo: Callable[..., Outcome]) -> Path:
    """The golden weights as a bundle."""
    path = models / "paper.visolo"
    visolo("export", paper_weights, "-o", path).succeeded()
    return path


@pytest.fixture(scope="session")
def visolo() -> Callable[..., Outcome]:
    """Calls the command line in this process."""
    return run_visolo
