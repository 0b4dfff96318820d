"""Whole sessions over pycuda and the stand-in driver: what they yield, and what they leave."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from helpers import LIMIT_S, blank, ended
from standin.stand_in import CHANCE, EAGER, LAZY, DriverQueues, StandIn
from visolo_core.errors import VisoloError
from visolo_core.instances import Instances
from visolo_runtime.engines.buffers import Buffers, Storage
from visolo_runtime.engines.engine import Engines
from visolo_runtime.engines.tensorrt.device import CudaDevice
from visolo_runtime.engines.tensorrt.device_buffers import DeviceBuffers
from visolo_runtime.session.loading import Model
from visolo_runtime.session.session import Session
from visolo_runtime.session.streams import Streams
from visolo_runtime.video.sample_clip import sample_frames

pytestmark = pytest.mark.standin
OpenEngines = Callable[..., Engines]
FRAMES = list(sample_frames(6, 64, 96))
VIDEOS = [FRAMES, FRAMES[::-1], [frame[:, ::-1].copy() for frame in FRAMES]]
OUT_OF_MEMORY, LAUNCH_FAILED, INVALIDATED = 2, 719, 901


@pytest.fixture(scope="module")
def alone(model: Model) -> list[list[Instances]]:
    """What each video yields on the CPU."""
    return [[session.step(frame) for frame in video] for session, video in _sessions(model)]


def _sessions(model: Model) -> Iterator[tuple[Session, list[Any]]]:
    for video in VIDEOS:
        yield model.session(record=False), video


def follow(engines: Engines, model: Model, video: list[Any]) -> list[Instances]:
    session = Session(engines.buffers(), model.stream_options(record=False))
    return [session.step(frame) for frame in video]


def agree(ours: list[Instances], theirs: list[Instances]) -> None:
    """Bit for bit: the engines are computed by the same library."""
    assert len(ours) == len(theirs)
    assert sum(map(len, theirs)) > 0
    for mine, its in zip(ours, theirs, strict=True):
        assert mine.tracker_id.tolist() == its.tracker_id.tolist()
        assert np.array_equal(mine.confidence, its.confidence)
        assert np.array_equal(mine.input_masks, its.input_masks)


@pytest.mark.parametrize("use_graphs", [True, False])
@pytest.mark.parametrize("mode", [LAZY, EAGER])
def test_a_session(
    driver: StandIn, open_engines: OpenEngines, model: Model, alone: list[list[Instances]],
    mode: int, use_graphs: bool,
) -> None:  # fmt: skip
    driver.reset(mode)
    agree(follow(open_engines(use_graphs), model, VIDEOS[0]), alone[0])
    assert bool(driver.count("cuGraphLaunch")) == use_graphs


@pytest.mark.parametrize("seed", range(50))
def test_several_streams_whatever_is_done_when(
    driver: StandIn, open_engines: OpenEngines, model: Model, alone: list[list[Instances]],
    seed: int,
) -> None:  # fmt: skip
    """Whoever has a frame takes part, and work is done at any time between call and wait."""
    driver.reset(CHANCE, seed)
    chance = np.random.default_rng(seed)
    done: list[list[Instances]] = [[] for _ in VIDEOS]
    on_gpu = replace(model, engines=open_engines())
    with Streams(on_gpu, [None] * len(VIDEOS)) as streams:
        while any(len(seen) < len(FRAMES) for seen in done):
            ready = {
                stream: VIDEOS[stream][len(seen)]
                for stream, seen in enumerate(done)
                if len(seen) < len(FRAMES) and chance.random() < 0.8
            }
            for stream, instances in streams.step(ready).items():
                done[stream].append(instances)
    for ours, theirs in zip(done, alone, strict=True):
        agree(ours, theirs)


def test_two_threads(
    driver: StandIn, open_engines: OpenEngines, model: Model, alone: list[list[Instances]]
) -> None:
    """Each opens, runs and drops sessions while the other does."""
    driver.reset(CHANCE, 7)
    engines = open_engines()
    with ThreadPoolExecutor(2) as threads:
        results = threads.map(lambda at: follow(engines, model, VIDEOS[at]), [0, 1] * 4)
        for number, ours in enumerate(results):
            agree(ours, alone[number % 2])


def test_a_session_opens_while_another_records(
    device: CudaDevice, open_engines: OpenEngines, model: Model, alone: list[list[Instances]]
) -> None:
    engines = open_engines()
    others: list[list[Instances]] = []

    def record() -> None:
        """Everything that a session does, from another thread, in the middle of a recording."""
        with device.current():
            device.upload(memory.address, source, stream)
        with ThreadPoolExecutor(1) as other:
            others.append(other.submit(follow, engines, model, VIDEOS[0]).result(LIMIT_S))

    with device.current():
        stream = device.stream()
        memory, source = device.allocate(400, stream), device.pinned((100,), "float32")
        target = device.pinned((100,), "float32")
        recorded = device.capture(stream, record)
        source[:] = 5
        recorded.launch(stream)
        device.download(target, memory.address, stream)
        stream.wait()
    agree(others[0], alone[0])
    assert target.tolist() == [5] * 100


def test_other_libraries_do_not_break_a_recording(driver: StandIn, device: CudaDevice) -> None:
    """What they do on the legacy stream waits for all streams that block, and would break the
    recording of one."""
    from pycuda import driver as cuda

    def others_work() -> None:
        with device.current():
            cuda.memset_d8(memory.address, 7, 100)

    def record() -> None:
        thread = threading.Thread(target=others_work)
        thread.start()
        ended(thread)

    with device.current():
        stream = device.stream()
        memory = device.allocate(100, stream)
        stream.wait()
        device.capture(stream, record)
    assert driver.count("cuMemsetD8_v2") == 1


def test_dropped_in_another_thread(
    driver: StandIn, open_engines: OpenEngines, model: Model
) -> None:
    """The fixture finds what is left of it."""
    sessions = [Session(open_engines().buffers(), model.stream_options())]
    sessions[0].step(FRAMES[0])
    assert driver.live().recordings > 0
    thread = threading.Thread(target=sessions.clear)
    thread.start()
    ended(thread)
    assert sessions == []


def test_dropped_while_the_device_works(driver: StandIn, open_engines: OpenEngines) -> None:
    buffers = open_engines().buffers()
    a_frame(buffers)
    waits = driver.count("cuStreamSynchronize")
    del buffers
    assert driver.count("cuStreamSynchronize") == waits + 1


def test_tensors_can_be_read_and_written(open_engines: OpenEngines) -> None:
    """As ``visolo verify`` does, with no context current."""
    buffers = open_engines().buffers()
    for name in ("memory_key", "mask_features", "scores"):
        values = np.random.default_rng(0).random(buffers.read(name).shape, np.float32)
        buffers.write(name, values)
        assert np.array_equal(buffers.read(name), values)


def a_frame(buffers: Buffers, threshold: float = 0.0) -> None:
    buffers.submit(range(1), blank(buffers, threshold=threshold))
    buffers.frame()
    buffers.store(range(1), [Storage(0, keeps_previous=True)])


CALLS = (
    "cuCtxPushCurrent_v2", "cuCtxPopCurrent_v2", "cuGraphLaunch", "cuMemcpyHtoDAsync_v2",
    "cuMemcpyDtoHAsync_v2", "cuMemcpyDtoDAsync_v2", "cuEventRecord", "cuEventRecordWithFlags",
    "cuEventSynchronize", "cuStreamSynchronize", "cuStreamWaitEvent", "cuMemsetD8Async",
    "cuLaunchHostFunc", "cuMemAlloc_v2", "cuMemHostAlloc", "cuEventCreate",
)  # fmt: skip


def calls(driver: StandIn) -> dict[str, int]:
    """What a step asks of the driver."""
    return {name: count for name in CALLS if (count := driver.count(name))}


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_what_a_frame_costs(driver: StandIn, open_engines: OpenEngines, threshold: float) -> None:
    """One launch and one wait, whether there is something to see or not."""
    buffers = open_engines().buffers()
    for _ in range(4):
        a_frame(buffers, threshold)
    driver.reset(LAZY)
    a_frame(buffers, threshold)
    made = calls(driver)
    contexts = made.pop("cuCtxPushCurrent_v2"), made.pop("cuCtxPopCurrent_v2")
    assert made == {"cuGraphLaunch": 1, "cuMemcpyDtoDAsync_v2": 4, "cuEventSynchronize": 1}
    assert sum(made.values()) + sum(contexts) <= 12, contexts


def test_times_by_the_clock_of_the_device(driver: StandIn, open_engines: OpenEngines) -> None:
    """A millisecond for each piece of work between two events."""
    buffers = open_engines().buffers()
    buffers.measured = True
    for _ in range(2):
        a_frame(buffers)
    driver.reset(LAZY)
    times = buffers.device_ms()
    assert driver.count("cuEventSynchronize") == len(times) == 6
    assert times == {
        "upload": 4.0, "frame graph": 1.0, "mask graph": 1.0, "decode graph": 1.0,
        "download": 2.0, "memory graph": 1.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("function", "status", "words"),
    [
        ("capture", INVALIDATED, "cuStreamEndCapture failed with 901"),
        ("cuGraphInstantiateWithFlags", OUT_OF_MEMORY, "out of memory"),
        ("cuLaunchHostFunc", LAUNCH_FAILED, "cannot run"),
    ],
)
def test_what_cannot_be_recorded_runs_plainly(
    driver: StandIn, open_engines: OpenEngines, model: Model, alone: list[list[Instances]],
    caplog: pytest.LogCaptureFixture, function: str, status: int, words: str,
) -> None:  # fmt: skip
    """The session goes on, and says once why it is slower."""
    engines = open_engines()
    session = Session(engines.buffers(), model.stream_options(record=False))
    # The four engines run once plainly, and are then recorded.
    driver.fail(function, 5 if function == "cuLaunchHostFunc" else 1, status)
    with caplog.at_level(logging.WARNING):
        ours = [session.step(frame) for frame in FRAMES]
    agree(ours, alone[0])
    (warning,) = caplog.messages
    assert "is not recorded as one launch" in warning
    assert words in warning


def test_a_failure_is_not_hidden_by_the_recording(driver: StandIn, device: CudaDevice) -> None:
    """Ending a recording that failed fails as well; the first reason counts."""

    def work() -> None:
        with pytest.raises(Exception, match=r"capturing|not permitted"):
            device.allocate(100, stream)
        raise VisoloError("TensorRT's own reason")

    with device.current():
        stream = device.stream()
        with pytest.raises(VisoloError, match="own reason"):
            device.capture(stream, work)
        assert driver.misuses() == ["cuMemAlloc_v2 while a stream is captured"]
        driver.reset(LAZY)
        stream.wait()  # it is free again


def test_a_launch_that_fails(driver: StandIn, open_engines: OpenEngines, model: Model) -> None:
    session = Session(open_engines().buffers(), model.stream_options())
    for _ in range(4):  # until this kind of frame is recorded for both sets of results
        session.step(FRAMES[0])
    driver.fail("cuGraphLaunch", 1, LAUNCH_FAILED)
    with pytest.raises(VisoloError, match="cuGraphLaunch failed with 719, unspecified launch"):
        session.step(FRAMES[0])
    session.step(FRAMES[2])


@pytest.mark.parametrize("function", ["cuMemAlloc_v2", "cuMemHostAlloc"])
def test_no_room_at_any_allocation(
    driver: StandIn, open_engines: OpenEngines, function: str
) -> None:
    """It is said in a sentence, and what was allocated before is given back."""
    engines = open_engines()
    driver.reset(LAZY)
    engines.buffers()
    count = driver.count(function)
    assert count > 5
    before = driver.live()
    for nth in range(1, count + 1):
        driver.fail(function, nth, OUT_OF_MEMORY, times=2)  # pycuda collects garbage and retries
        with pytest.raises(VisoloError, match=r"no room|cannot set aside"):
            engines.buffers()
        assert driver.misuses() == []
        driver.reset(LAZY)
        assert driver.live() == before


def test_contexts_are_left_as_they_were(
    driver: StandIn, device: CudaDevice, open_engines: OpenEngines, queues: DriverQueues
) -> None:
    """Nothing stays current, and one context serves all devices of this index."""
    from visolo_runtime.engines.tensorrt.device import cuda_device

    buffers = open_engines().buffers()
    assert isinstance(buffers, DeviceBuffers)
    buffers.warm_up()
    assert driver.depth() == 0
    assert cuda_device(0) is device
    assert driver.users(0) == 1
    with device.current(), device.current():
        assert driver.depth() == 1  # pycuda keeps one, whatever it is asked to push
        queues.check_current()


def test_memory_is_zero(driver: StandIn, device: CudaDevice) -> None:
    """As soon as the stream comes to it; the driver fills what it gives with garbage."""
    with device.current():
        stream = device.stream()
        memory = device.allocate(1000, stream)
        target = device.pinned((1000,), "uint8")
        assert not target.any()
        target[:] = 1
        device.download(target, memory.address, stream)
        stream.wait()
    assert not target.any()
    assert driver.count("cuMemsetD8_v2") == 0  # which would wait for all blocking streams
