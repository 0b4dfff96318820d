"""ONNX Runtime's providers on a real GPU. These have not been run on one yet."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from helpers import run_visolo
from skips import NO_CUDA
from visolo_core.results import Track
from visolo_export.comparison import compare_tracks
from visolo_runtime.bundle import Bundle
from visolo_runtime.engines.onnxruntime.device import DeviceBytes, OrtDevice
from visolo_runtime.engines.onnxruntime.gpu_backend import (
    GpuProvider,
    OrtDeviceEngine,
    open_on_gpu,
)
from visolo_runtime.models.shipped import shipped_model
from visolo_runtime.session.loading import Model, load
from visolo_runtime.video.sample_clip import sample_frames

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(600)]
providers = pytest.mark.parametrize("provider", ["cuda", "tensorrt"])


@pytest.fixture(scope="module")
def opened() -> dict[str, Model]:
    """The shipped model with each provider; engines are built once and kept in the user's cache."""
    return {name: load(shipped_model(), f"onnxruntime-{name}") for name in ("cuda", "tensorrt")}


def follow(model: Model, frames: int) -> list[Track]:
    session = model.session()
    for frame in sample_frames(frames):
        session.step(frame)
    return session.finish()


@providers
def test_every_tensor_and_the_closed_loop(provider: str) -> None:
    """Within the tolerance of float32, so without TF32."""
    weights = shipped_model().with_name("lite.safetensors")
    command = ("verify", shipped_model(), "--reference", weights, "--frames", 24, "--json")
    run_visolo(*command, "--backend", f"onnxruntime-{provider}").succeeded()


def test_recorded_and_plain_work_agree(opened: dict[str, Model]) -> None:
    bundle = Bundle(shipped_model())
    plain = open_on_gpu(bundle, bundle.graphs("onnx", "fp32"), "cuda", use_graphs=False)
    compared = compare_tracks(
        follow(opened["cuda"], 40), follow(replace(opened["cuda"], engines=plain), 40)
    )
    assert compared.same_tracks
    assert compared.min_mask_iou == 1.0


def test_graphs_are_recorded(opened: dict[str, Model]) -> None:
    """Those of a fixed shape have no control flow, and nothing that the CPU must compute."""
    by_graph = opened["cuda"].engines.by_graph
    recorded = {
        graph
        for graph, engine in by_graph.items()
        if isinstance(engine, OrtDeviceEngine) and engine.records
    }
    assert recorded == {"frame", "mask", "decode"}


@providers
def test_little_goes_up_and_comes_down(
    opened: dict[str, Model], monkeypatch: pytest.MonkeyPatch, provider: GpuProvider
) -> None:
    """The image goes up; what comes down is known about cells, and the chosen masks."""
    model, moved = opened[provider], {"up": 0, "down": 0}
    download, fill = OrtDevice.download, DeviceBytes.fill

    def counted_download(self: OrtDevice, target: Any, source: int, wait: bool) -> None:
        moved["down"] += target.nbytes
        download(self, target, source, wait)

    def counted_fill(self: DeviceBytes, values: Any) -> None:
        moved["up"] += values.nbytes
        fill(self, values)

    session = model.session(record=False)
    height, width = model.config.input_size
    monkeypatch.setattr(OrtDevice, "download", counted_download)
    monkeypatch.setattr(DeviceBytes, "fill", counted_fill)
    for frame in sample_frames(20):
        moved.update(up=0, down=0)
        candidates = session.step(frame)
        assert moved["up"] < 3 * height * width + 1024
        # More cells are decoded than become instances.
        assert moved["down"] < 100_000 + 32 * height * width
        assert len(candidates) * height * width <= moved["down"]


@providers
def test_two_threads(opened: dict[str, Model], provider: str) -> None:
    alone = follow(opened[provider], 30)
    results: dict[int, list[Track]] = {}

    def work(number: int) -> None:
        results[number] = follow(opened[provider], 30)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 2
    assert all(compare_tracks(alone, tracks).same_tracks for tracks in results.values())


@providers
def test_masks_for_pytorch(opened: dict[str, Model], provider: str) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip(NO_CUDA)
    session = opened[provider].session(record=False, device_masks=True)
    kept = []
    for frame in sample_frames(10):
        instances = session.step(frame)
        assert instances.device_masks is not None
        masks = [torch.from_dlpack(mask) for mask in instances.device_masks]
        assert all(mask.is_cuda for mask in masks)
        kept.append((masks, instances.input_masks.copy()))
    assert sum(len(masks) for masks, _ in kept) > 10
    for masks, expected in kept:
        for mask, its in zip(masks, expected, strict=True):
            np.testing.assert_array_equal(mask.cpu().numpy(), its)
