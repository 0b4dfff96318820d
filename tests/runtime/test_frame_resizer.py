"""Frames resized on a GPU that is none: the same images, whatever they come as."""

from __future__ import annotations

import gc
import logging
import sys
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fake_gpu import FakeDevice, FakeStream, fake_tensorrt
from helpers import Array
from pixels_on_gpu import OnGpu, write_plans
from visolo_core.errors import VisoloError
from visolo_core.pixels import PixelGraph, pixel_contract
from visolo_runtime.engines.device_array import DeviceArray
from visolo_runtime.engines.dlpack import CUDA
from visolo_runtime.engines.tensorrt.engine import TensorRtEngine, TensorRtRuntime
from visolo_runtime.engines.tensorrt.frame_resizer import FrameResizer
from visolo_runtime.video.nv12 import Nv12Frame
from visolo_runtime.video.raw_frames import raw_frame
from visolo_runtime.video.resizing import resized

SIZE = (24, 40)
IMAGE_BYTES = 3 * 24 * 40


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> dict[PixelGraph, Path]:
    return write_plans(tmp_path_factory.mktemp("plans"), SIZE)


@pytest.fixture
def device() -> FakeDevice:
    return FakeDevice()


@pytest.fixture
def engines(
    device: FakeDevice, plans: dict[PixelGraph, Path], monkeypatch: pytest.MonkeyPatch
) -> Mapping[PixelGraph, TensorRtEngine]:
    monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt(device))
    runtime = TensorRtRuntime("tensorrt", device)
    return {graph: runtime.load(plan, pixel_contract(SIZE)[graph]) for graph, plan in plans.items()}


class Bench:
    """A resizer, and places for its images."""

    def __init__(
        self, device: FakeDevice, engines: Mapping[PixelGraph, TensorRtEngine], use_graphs: bool
    ) -> None:
        self.device = device
        with device.current():
            self.stream = device.stream()
            self.images = [device.allocate(IMAGE_BYTES, self.stream) for _ in range(3)]
        self.resizer = FrameResizer(device, engines, SIZE, self.stream, use_graphs=use_graphs)

    def give(self, frame: object, place: int = 0, order: Any = "rgb") -> None:
        raw = raw_frame(frame, SIZE, order, gpu=0)
        assert raw is not None
        with self.device.current():
            self.resizer.resize(raw, place, self.images[place].address)

    def image(self, place: int = 0) -> Array:
        """After all work is done."""
        with self.device.current():
            pinned = self.device.pinned((*SIZE, 3), "uint8")
            self.device.download(pinned, self.images[place].address, self.stream)
            self.stream.wait()
        self.resizer.release()
        return pinned


@pytest.fixture(params=[True, False], ids=["recorded", "plain"])
def bench(
    request: pytest.FixtureRequest,
    device: FakeDevice,
    engines: Mapping[PixelGraph, TensorRtEngine],
) -> Iterator[Bench]:
    bench = Bench(device, engines, request.param)
    yield bench
    with device.current():
        bench.stream.wait()


def noise(*shape: int, seed: int = 1) -> Array:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def expected(frame: Any, order: Any = "rgb") -> Array:
    return resized(frame, SIZE, order).image


def test_frames_on_the_host(bench: Bench) -> None:
    picture = noise(90, 130, 3)
    for _ in range(3):  # plainly, then as it was recorded
        for frame in (picture, torch.from_numpy(picture), Image.fromarray(picture), picture[::-1]):
            for order in ("rgb", "bgr"):
                bench.give(frame, order=order)
                assert np.array_equal(bench.image(), expected(frame, order))


def test_another_frame_each_time(bench: Bench) -> None:
    for number in range(4):
        picture = noise(90, 130, 3, seed=number)
        bench.give(picture)
        assert np.array_equal(bench.image(), expected(picture))
    assert bool(bench.device.counts["graph launch"]) == bench.resizer._use_graphs


def test_nv12_on_both_sides(bench: Bench) -> None:
    luma, chroma = noise(60, 90), noise(30, 90)
    whole = expected(Nv12Frame(luma, chroma))
    surface = noise(90, 128)  # rows padded to 128 bytes
    surface[:60, :90], surface[60:, :90] = luma, chroma
    for frame in (
        Nv12Frame(luma, chroma),
        Nv12Frame(surface[:60, :90], surface[60:, :90]),
        Nv12Frame(OnGpu(luma), OnGpu(chroma)),
        Nv12Frame(OnGpu(surface[:60, :90]), OnGpu(surface[60:, :90])),
    ):
        bench.give(frame)
        assert np.array_equal(bench.image(), whole)
    full = Nv12Frame(luma, chroma, "bt709", full_range=True)
    bench.give(full)
    assert np.array_equal(bench.image(), expected(full))


def test_frames_on_the_gpu(bench: Bench) -> None:
    picture, wide = noise(70, 110, 3), noise(80, 130, 4)
    part = wide[5:75, 10:120, :3]
    shared = DeviceArray(picture.ctypes.data, picture.shape, "uint8", picture, (CUDA, 0))
    for _ in range(2):
        for frame, values in ((OnGpu(picture), picture), (shared, picture), (OnGpu(part), part)):
            bench.give(frame, order="bgr")
            assert np.array_equal(bench.image(), expected(values, "bgr"))
    assert bench.device.counts["copy"] == 6
    assert bench.device.counts["pinned"] == 0


def test_the_producers_work_comes_first(bench: Bench) -> None:
    """Its stream fills the frame only when it is waited for."""
    picture, later = np.zeros((50, 60, 3), np.uint8), noise(50, 60, 3)
    with bench.device.current():
        producer = bench.device.stream()
    assert isinstance(producer, FakeStream)
    producer.give(lambda: np.copyto(picture, later))
    bench.give(OnGpu(picture, producer.handle))
    assert np.array_equal(bench.image(), expected(later))
    assert bench.device.counts["follow"] == 1


def test_several_frames_before_a_wait(bench: Bench) -> None:
    """Each has its place on the host; two of one size share the engine's context."""
    for _ in range(2):
        pictures = [noise(90, 130, 3), noise(90, 130, 3, seed=2), noise(33, 44, 3)]
        for place, picture in enumerate(pictures):
            bench.give(picture, place)
        for place, picture in enumerate(pictures):
            assert np.array_equal(bench.image(place), expected(picture))


def test_frames_are_kept_until_they_were_read(bench: Bench) -> None:
    class Owner:
        """Can be watched."""

    values, owner = noise(20, 30, 3), Owner()
    watched = weakref.ref(owner)
    bench.give(DeviceArray(values.ctypes.data, values.shape, "uint8", owner, (CUDA, 0)))
    del owner
    gc.collect()
    assert watched() is not None
    bench.image()
    gc.collect()
    assert watched() is None


def test_sizes_come_and_go(bench: Bench) -> None:
    """What is set up for a size is used again, and let go when there are too many."""
    for height in (30, 31, 30, 31):
        bench.give(noise(height, 50, 3))
    set_up = bench.device.counts["allocation"]
    for height in (30, 31):
        bench.give(noise(height, 50, 3))
    assert bench.device.counts["allocation"] == set_up
    for height in range(32, 40):
        picture = noise(height, 50, 3)
        bench.give(picture)
        assert np.array_equal(bench.image(), expected(picture))
    assert len(bench.resizer._kinds) == 4


def test_what_it_costs(device: FakeDevice, engines: Mapping[PixelGraph, TensorRtEngine]) -> None:
    """A copy and a launch for each frame, nothing allocated, and no wait."""
    bench, picture = Bench(device, engines, True), noise(90, 130, 3)
    bench.give(picture)
    before = device.counts.copy()
    for _ in range(5):
        bench.give(picture)
    used = device.counts - before
    assert used.pop("upload bytes") == 5 * picture.nbytes
    assert used.pop("engine", 0) == 0
    assert used == {"upload": 5, "graph launch": 5}
    bench.image()


def test_no_room(bench: Bench) -> None:
    bench.device.free = 100_000
    with pytest.raises(VisoloError, match="no room"):
        bench.give(noise(300, 300, 3))
    bench.device.free = 10**9
    picture = noise(300, 300, 3)
    bench.give(picture)
    assert np.array_equal(bench.image(), expected(picture))


def test_a_recording_that_fails(
    device: FakeDevice,
    engines: Mapping[PixelGraph, TensorRtEngine],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Frames go on, plainly."""

    def refuse(*_: object) -> None:
        raise VisoloError("an engine waits")

    monkeypatch.setattr(device, "capture", refuse)
    bench = Bench(device, engines, True)
    with caplog.at_level(logging.WARNING):
        for number in range(3):
            picture = noise(50, 60, 3, seed=number)
            bench.give(picture)
            assert np.array_equal(bench.image(), expected(picture))
    assert [record.message for record in caplog.records] == [
        "resizing is not recorded and costs more each frame: an engine waits"
    ]
