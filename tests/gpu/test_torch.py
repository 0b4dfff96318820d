"""PyTorch on a real GPU. These have not been run on one yet; what they call runs on the CPU in
``tests/runtime/test_torch_device.py``."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helpers import run_visolo
from skips import NO_CUDA
from visolo_core.config import InferenceConfig
from visolo_core.nn.checkpoint import Checkpoint, load_checkpoint
from visolo_core.results import Track
from visolo_export.comparison import compare_tracks
from visolo_runtime.engines.device_name import DeviceName
from visolo_runtime.engines.engine import Engines
from visolo_runtime.engines.torch.opening import weights_engines
from visolo_runtime.models.shipped import shipped_weights
from visolo_runtime.session.loading import load
from visolo_runtime.session.session import Session
from visolo_runtime.session.stream import StreamOptions
from visolo_runtime.session.streams import Streams
from visolo_runtime.video.sample_clip import sample_frames

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(600),
    pytest.mark.skipif(torch.version.cuda is None, reason=NO_CUDA),
]
GPU = DeviceName("cuda")
LITE = shipped_weights()


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return load_checkpoint(LITE)


def engines_of(checkpoint: Checkpoint, **options: Any) -> Engines:
    return weights_engines(checkpoint, InferenceConfig().memory_slots, device=GPU, **options)


def options_of(checkpoint: Checkpoint, **options: Any) -> StreamOptions:
    return StreamOptions(InferenceConfig(), checkpoint.header.labels, **options)


def follow(engines: Engines, checkpoint: Checkpoint, frames: int = 30) -> list[Track]:
    session = Session(engines.buffers(), options_of(checkpoint))
    for frame in sample_frames(frames):
        session.step(frame)
    return session.finish()


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_every_tensor_of_the_small_network(precision: str) -> None:
    command = ("verify", LITE, "--reference", LITE, "--backend", "torch", "--device", "cuda")
    report = run_visolo(*command, "--precision", precision, "--json").succeeded().json()
    assert report["form"].startswith("PyTorch")
    assert report["reference"].endswith("CPU")


def test_every_tensor_of_the_papers_network(paper_weights: Path) -> None:
    """float32 without TF32, or features differ by far more than the tolerance."""
    command = ("verify", paper_weights, "--reference", paper_weights, "--backend", "torch")
    run_visolo(*command, "--device", "cuda", "--frames", 6).succeeded()


def test_the_users_settings_stay(checkpoint: Checkpoint) -> None:
    torch.backends.cudnn.allow_tf32 = True
    follow(engines_of(checkpoint), checkpoint, 3)
    assert torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize("half", [False, True], ids=["fp32", "fp16"])
def test_recorded_and_eager_agree(
    checkpoint: Checkpoint, half: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        tracks = [
            follow(engines_of(checkpoint, half=half, use_graphs=recorded), checkpoint)
            for recorded in (True, False)
        ]
    assert "not recorded" not in caplog.text
    compared = compare_tracks(*tracks)
    assert compared.same_tracks
    assert compared.min_mask_iou == 1.0


def test_streams_together_as_alone(checkpoint: Checkpoint) -> None:
    model = load(LITE, "torch", device="cuda")
    frames = list(sample_frames(20))
    videos = [frames, frames[::-1], frames[5:] + frames[:5]]
    with Streams(model, [None] * 3) as streams:
        together = [
            streams.step({row: video[at] for row, video in enumerate(videos)}) for at in range(20)
        ]
    for row, video in enumerate(videos):
        session = model.session(record=False)
        for at, frame in enumerate(video):
            alone, found = session.step(frame), together[at][row]
            assert found.tracker_id.tolist() == alone.tracker_id.tolist()
            assert np.abs(found.confidence - alone.confidence).max(initial=0) < 1e-3


@pytest.mark.parametrize("format", ["torchscript", "pt2"])
def test_programs_exported_on_a_cpu(format: str, tmp_path: Path) -> None:
    bundle = tmp_path / "m.visolo"
    run_visolo("export", LITE, "-o", bundle, "--format", format).succeeded()
    command = ("verify", bundle, "--reference", LITE, "--backend", format, "--frames", 6)
    run_visolo(*command, "--device", "cuda").succeeded()


def test_compiled_for_this_gpu(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """By AOTInductor, and recorded like any other."""
    bundle = tmp_path / "m.visolo"
    command = ("export", LITE, "-o", bundle, "--format", "aotinductor", "--precision", "fp16")
    run_visolo(*command, "--device", "cuda").succeeded()
    verify = ("verify", bundle, "--reference", LITE, "--backend", "aotinductor", "--frames", 6)
    with caplog.at_level(logging.WARNING):
        run_visolo(*verify).succeeded()
    assert "not recorded" not in caplog.text
    run_visolo(*verify, "--device", "cpu").refused("compiled for cuda sm", "--device cpu")


def test_masks_on_the_gpu(checkpoint: Checkpoint) -> None:
    options = replace(options_of(checkpoint, record=False), device_masks=True)
    session = Session(engines_of(checkpoint).buffers(), options)
    taken = []
    for frame in sample_frames(20):
        instances = session.step(frame)
        assert instances.device_masks is not None
        masks = [torch.utils.dlpack.from_dlpack(each) for each in instances.device_masks]
        assert all(each.is_cuda for each in masks)
        taken.append((masks, instances.input_masks))
    assert sum(len(masks) for masks, _ in taken) > 10
    for masks, expected in taken:
        for mask, each in zip(masks, expected, strict=True):
            np.testing.assert_array_equal(mask.cpu().numpy(), each)


def test_two_threads(checkpoint: Checkpoint) -> None:
    """Each opens and records its own session while the other works."""
    engines = engines_of(checkpoint)
    alone = follow(engines, checkpoint)
    found: dict[int, list[Track]] = {}

    def work(number: int) -> None:
        found[number] = follow(engines, checkpoint)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(2):
        compared = compare_tracks(alone, found[number])
        assert compared.same_tracks
        assert compared.min_mask_iou == 1.0


def test_no_memory_is_lost(checkpoint: Checkpoint) -> None:
    session = Session(engines_of(checkpoint).buffers(), options_of(checkpoint, record=False))
    frames, used = list(sample_frames(50)), []
    for number in range(1500):
        session.step(frames[number % 50])
        if number in (200, 1499):
            torch.cuda.synchronize()
            used.append(torch.cuda.memory_reserved())
    assert used[1] - used[0] < 8e6


def test_the_clock_of_the_device(checkpoint: Checkpoint) -> None:
    session = Session(engines_of(checkpoint).buffers(), options_of(checkpoint, record=False))
    spent = session.device_ms(next(iter(sample_frames(1))))
    assert {"upload", "frame graph", "download", "memory graph"} <= spent.keys()
    assert all(ms > 0 for ms in spent.values())
