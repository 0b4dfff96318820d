"""Frames resized over pycuda and the stand-in driver, from the host and from its device memory."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fake_gpu import fake_tensorrt
from helpers import Array, ended
from pixels_on_gpu import write_plans
from standin.stand_in import CHANCE, DriverQueues, StandIn
from visolo_core.errors import VisoloError
from visolo_core.pixels import PixelGraph, pixel_contract
from visolo_runtime.bundle import Bundle
from visolo_runtime.engines.device_array import DeviceArray
from visolo_runtime.engines.dlpack import CUDA
from visolo_runtime.engines.engine import Engines
from visolo_runtime.engines.tensorrt.backend import TensorRtBackend
from visolo_runtime.engines.tensorrt.device import CudaDevice, CudaStream, DeviceMemory
from visolo_runtime.engines.tensorrt.engine import TensorRtEngine, TensorRtRuntime
from visolo_runtime.engines.tensorrt.frame_resizer import FrameResizer
from visolo_runtime.session.loading import Model
from visolo_runtime.session.session import Session
from visolo_runtime.video.nv12 import Nv12Frame
from visolo_runtime.video.raw_frames import raw_frame
from visolo_runtime.video.resizing import resized
from visolo_runtime.video.sample_clip import sample_frames

pytestmark = pytest.mark.standin
SIZE = (24, 40)
OUT_OF_MEMORY = 2
Graphs = dict[PixelGraph, TensorRtEngine]


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> dict[PixelGraph, Path]:
    return write_plans(tmp_path_factory.mktemp("plans"), SIZE)


@pytest.fixture
def engines(
    device: CudaDevice,
    queues: DriverQueues,
    plans: dict[PixelGraph, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> Graphs:
    monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt(queues))
    runtime, contract = TensorRtRuntime("tensorrt", device), pixel_contract(SIZE)
    return {graph: runtime.load(plan, contract[graph]) for graph, plan in plans.items()}


class OnDevice:
    """An array that a stream of another library fills, and what keeps its memory."""

    def __init__(self, device: CudaDevice, stream: CudaStream, values: Array) -> None:
        self.memory: DeviceMemory = device.allocate(values.nbytes, stream)
        pinned = device.pinned(values.shape, "uint8")
        pinned[...] = values
        device.upload(self.memory.address, pinned, stream)
        self._device, self._pinned, self._stream = device, pinned, stream
        self.__cuda_array_interface__ = {
            "shape": values.shape,
            "typestr": "|u1",
            "data": (self.memory.address, False),
            "version": 3,
            "stream": stream.handle,
        }

    def __del__(self) -> None:
        with self._device.current():
            self._stream.wait()


def noise(*shape: int, seed: int) -> Array:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize("use_graphs", [True, False])
@pytest.mark.parametrize("seed", range(10))
def test_frames_whatever_is_done_when(
    driver: StandIn, device: CudaDevice, engines: Graphs, seed: int, use_graphs: bool
) -> None:
    """Frames of several sizes and kinds, some of them still being made by another stream."""
    driver.reset(CHANCE, seed)
    chance = np.random.default_rng(seed)
    with device.current():
        stream, producer = device.stream(), device.stream()
        places = [device.allocate(3 * SIZE[0] * SIZE[1], stream) for _ in range(2)]
        images = [device.pinned((*SIZE, 3), "uint8") for _ in places]
        resizer = FrameResizer(device, engines, SIZE, stream, use_graphs=use_graphs)
        for number in range(12):
            expected = []
            for place, image in enumerate(places):
                frame, whole = a_frame(device, producer, int(chance.integers(4)), number)
                raw = raw_frame(frame, SIZE)
                assert raw is not None
                del frame
                resizer.resize(raw, place, image.address)
                expected.append(resized(whole, SIZE).image)
            for pinned, image in zip(images, places, strict=True):
                device.download(pinned, image.address, stream)
            stream.wait()
            resizer.release()
            for pinned, image_expected in zip(images, expected, strict=True):
                assert np.array_equal(pinned, image_expected)
    assert bool(driver.count("cuGraphLaunch")) == use_graphs


def a_frame(device: CudaDevice, producer: CudaStream, kind: int, seed: int) -> tuple[Any, Any]:
    """A frame, and the same on the host."""
    picture = noise(50 + seed % 2, 70, 3, seed=seed)
    luma, chroma = noise(40, 60, seed=seed), noise(20, 60, seed=seed)
    if kind == 0:
        return picture, picture
    if kind == 1:
        return OnDevice(device, producer, picture), picture
    if kind == 2:
        first, second = (OnDevice(device, producer, plane) for plane in (luma, chroma))
        return Nv12Frame(first, second), Nv12Frame(luma, chroma)
    made = OnDevice(device, producer, picture)
    producer.wait()  # as a library does that is asked through DLPack
    shared = DeviceArray(made.memory.address, picture.shape, "uint8", made, (CUDA, 0))
    return shared, picture


def test_sizes_go_while_the_device_works(
    driver: StandIn, device: CudaDevice, engines: Graphs
) -> None:
    """More sizes than are kept, and nobody waits between them."""
    with device.current():
        stream = device.stream()
        memory = device.allocate(3 * SIZE[0] * SIZE[1], stream)
        image = device.pinned((*SIZE, 3), "uint8")
        resizer = FrameResizer(device, engines, SIZE, stream)
        for number in range(9):
            picture = noise(30 + number, 50, 3, seed=number)
            raw = raw_frame(picture, SIZE)
            assert raw is not None
            resizer.resize(raw, number, memory.address)
        device.download(image, memory.address, stream)
        stream.wait()
        assert np.array_equal(image, resized(picture, SIZE).image)


@pytest.mark.parametrize(
    ("function", "times"),
    [("cuMemAlloc_v2", 2), ("cuMemHostAlloc", 1)],  # pycuda tries the first again
)
@pytest.mark.parametrize("nth", range(1, 6))
def test_no_room_at_any_allocation(
    driver: StandIn, device: CudaDevice, engines: Graphs, function: str, times: int, nth: int
) -> None:
    with device.current():
        stream = device.stream()
        memory = device.allocate(3 * SIZE[0] * SIZE[1], stream)
        image = device.pinned((*SIZE, 3), "uint8")
        resizer = FrameResizer(device, engines, SIZE, stream)
        picture = noise(30, 50, 3, seed=1)
        raw = raw_frame(picture, SIZE)
        assert raw is not None
        driver.fail(function, nth, OUT_OF_MEMORY, times)
        with pytest.raises(VisoloError, match=r"has no room|cannot set aside"):
            resizer.resize(raw, 0, memory.address)
        resizer.resize(raw, 0, memory.address)
        device.download(image, memory.address, stream)
        stream.wait()
        assert np.array_equal(image, resized(picture, SIZE).image)


@pytest.fixture
def open_pixels(
    device: CudaDevice, open_engines: Callable[..., Engines], tiny_bundle: Path, tmp_path: Path
) -> Callable[..., Engines]:
    """Opens the tiny network's engines with those that resize frames."""

    def open_them(use_graphs: bool = True) -> Engines:
        engines = open_engines(use_graphs)
        bundle = Bundle(tiny_bundle)
        contract, backend = pixel_contract(bundle.manifest.model.input_size), engines.backend
        assert isinstance(backend, TensorRtBackend)
        pixels = {}
        for graph, file in bundle.pixel_files_of(bundle.graphs("onnx")).items():
            plan = tmp_path / f"{graph}.engine"
            plan.write_bytes(str(file).encode())
            pixels[graph] = backend._runtime.load(plan, contract[graph])
        backend._pixels = pixels
        return engines

    return open_them


def mixed(device: CudaDevice, producer: CudaStream, frame: Array, number: int) -> Any:
    """A frame as it comes from the host, resized ahead, or on the device."""
    if number % 3 == 2:
        return OnDevice(device, producer, frame)
    return frame if number % 3 else Image.fromarray(frame)


@pytest.mark.parametrize("seed", range(10))
def test_sessions_that_give_and_take_device_memory(
    driver: StandIn,
    device: CudaDevice,
    open_pixels: Callable[..., Engines],
    model: Model,
    seed: int,
) -> None:
    """Frames from anywhere, masks that outlive their session and are dropped in another thread."""
    driver.reset(CHANCE, seed)
    with device.current():
        producer = device.stream()
    frames = list(sample_frames(6, 64, 96))
    alone = model.session(record=False)
    expected = [alone.step(frame) for frame in frames]
    session = Session(
        open_pixels(seed % 2 == 0).buffers(),
        model.stream_options(record=False, device_masks=True),
    )
    handed_out: list[Any] = []
    for number, frame in enumerate(frames):
        with device.current():
            given = mixed(device, producer, frame, number)
        instances = session.step(given)
        del given
        assert np.array_equal(instances.input_masks, expected[number].input_masks)
        for mask, its in zip(instances.device_masks or (), instances.input_masks, strict=True):
            assert np.array_equal(downloaded(device, mask), its)  # by a stream of its own
        handed_out.append(instances.device_masks)
    del session, instances, mask
    masks = [(each.input_masks, handed_out.pop(0)) for each in expected]
    assert sum(len(theirs) for theirs, _ in masks) > 0
    for theirs, ours in masks:
        for its, mine in zip(theirs, ours, strict=True):
            assert np.array_equal(downloaded(device, mine), its)
    del theirs, ours, mine
    thread = threading.Thread(target=masks.clear)
    thread.start()
    ended(thread)


def downloaded(device: CudaDevice, mask: DeviceArray) -> Array:
    with device.current():
        stream, pinned = device.stream(), device.pinned(mask.shape, "uint8")
        device.download(pinned, mask.__cuda_array_interface__["data"][0], stream)
        stream.wait()
    return pinned
