"""TensorRT engines on a real GPU. These have not been run on one yet."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers import ended, resident, run_visolo
from skips import NO_CUDA
from visolo_core.results import Track
from visolo_export.comparison import compare_tracks
from visolo_runtime.bundle import Bundle
from visolo_runtime.engines.engine import Engines
from visolo_runtime.engines.tensorrt.backend import TensorRtBackend, open_tensorrt
from visolo_runtime.engines.tensorrt.library import Library
from visolo_runtime.session.loading import load
from visolo_runtime.session.session import Session
from visolo_runtime.session.stream import StreamOptions
from visolo_runtime.session.streams import Streams
from visolo_runtime.video.sample_clip import sample_frames

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def engines(bundle: Path, library: Library) -> Engines:
    return opened(bundle, library)


@pytest.fixture(scope="module")
def options(bundle: Path) -> StreamOptions:
    manifest = Bundle(bundle).manifest
    return StreamOptions(manifest.inference, manifest.labels)


def opened(bundle: Path, library: Library, use_graphs: bool = True) -> Engines:
    graphs = Bundle(bundle).graphs(library)
    return open_tensorrt(Bundle(bundle), graphs, library, use_graphs=use_graphs)


def follow(session: Session, frames: int) -> list[Track]:
    for frame in sample_frames(frames):
        session.step(frame)
    return session.finish()


def test_every_tensor_and_the_closed_loop(bundle: Path, weights: Path, library: str) -> None:
    """Float32 on a GPU uses TF32 for convolutions where the graph's types leave it to TensorRT;
    the tolerance of the command is that of float32, and its report names what is over it."""
    command = ("verify", bundle, "--reference", weights, "--backend", library)
    run_visolo(*command, "--frames", 24, "--json").succeeded()


def test_recorded_and_plain_work_agree(
    bundle: Path, library: Library, options: StreamOptions
) -> None:
    tracks = [
        follow(Session(opened(bundle, library, use_graphs).buffers(), options), 40)
        for use_graphs in (True, False)
    ]
    compared = compare_tracks(*tracks)
    assert compared.same_tracks
    assert compared.min_mask_iou == 1.0


def test_streams_together_as_alone(batched_engines: Path, library: Library) -> None:
    """A batch may be computed by other kernels, so scores are close and not the same."""
    model = load(batched_engines, library)
    frames = list(sample_frames(30))
    videos = [frames, frames[::-1], frames[5:] + frames[:5]]
    with Streams(model, [None] * 3) as streams:
        together = [streams.step({row: video[at] for row, video in enumerate(videos)})
                    for at in range(30)]  # fmt: skip
    for row, video in enumerate(videos):
        session = model.session(record=False)
        for at, frame in enumerate(video):
            alone, found = session.step(frame), together[at][row]
            assert found.tracker_id.tolist() == alone.tracker_id.tolist()
            assert np.abs(found.confidence - alone.confidence).max(initial=0) < 1e-2


def test_ten_thousand_frames(engines: Engines, options: StreamOptions) -> None:
    """No memory of the device and none of the host is lost."""
    from pycuda import driver

    backend = engines.backend
    assert isinstance(backend, TensorRtBackend)
    session = Session(engines.buffers(), replace(options, record=False))
    frames = list(sample_frames(100))
    levels = []
    for number in range(10_000):
        session.step(frames[number % 100])
        if number in (500, 9_999):
            with backend.device.current():
                levels.append((driver.mem_get_info()[0], resident()))
    (free_before, rss_before), (free_after, rss_after) = levels
    assert free_before - free_after < 8e6
    assert rss_after - rss_before < 10e6


def test_two_threads(engines: Engines, options: StreamOptions) -> None:
    alone = follow(Session(engines.buffers(), options), 60)
    found: dict[int, list[Track]] = {}

    def work(number: int) -> None:
        found[number] = follow(Session(engines.buffers(), options), 60)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        ended(thread)
    for tracks in found.values():
        assert compare_tracks(alone, tracks).same_tracks
    assert len(found) == 2


def test_it_lives_beside_pytorch(engines: Engines, options: StreamOptions) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip(NO_CUDA)
    before = torch.ones(1000, device="cuda")
    follow(Session(engines.buffers(), options), 5)
    assert float((before * 2).sum()) == 2000
