"""The TensorRT chain on a GPU that is none: order of work, addresses, copies, and what it costs."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fake_gpu import FakeContext, FakeDevice, FakeEngine, fake_tensorrt
from visolo_core.config import InferenceConfig
from visolo_core.contract import GRAPHS
from visolo_core.errors import VisoloError
from visolo_runtime import load
from visolo_runtime.bundle import Bundle, GraphFiles
from visolo_runtime.chain import DECODE_LIMIT
from visolo_runtime.resizing import resize_frame
from visolo_runtime.sample_clip import sample_frames
from visolo_runtime.session import Session
from visolo_runtime.streams import Streams
from visolo_runtime.tensorrt_backend import TensorRtEngines, check_fit
from visolo_runtime.tensorrt_chain import TensorRtChain
from visolo_runtime.tensorrt_engine import TensorRtLibrary
from visolo_runtime.tensorrt_group import TensorRtGroup


@pytest.fixture
def device() -> FakeDevice:
    return FakeDevice()


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch, device: FakeDevice) -> TensorRtLibrary:
    monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt(device))
    return TensorRtLibrary("tensorrt")


@pytest.fixture
def engines(
    library: TensorRtLibrary, device: FakeDevice, lite_bundle: Path, tmp_path: Path
) -> TensorRtEngines:
    return load_plans(library, device, lite_bundle, tmp_path)


def load_plans(
    library: TensorRtLibrary, device: FakeDevice, bundle: Path, folder: Path
) -> TensorRtEngines:
    contract, loaded = Bundle(bundle).manifest.contract, {}
    for graph in GRAPHS:
        plan = folder / f"{graph}.engine"
        plan.write_bytes(str(bundle / f"{graph}.onnx").encode())
        loaded[graph] = library.load(plan, contract[graph])
    return TensorRtEngines(device, library, loaded, contract, Bundle(bundle).manifest.batch)


def run(chain: Any, inference: Any, frames: int) -> list[Any]:
    session = Session(chain, inference)
    for frame in sample_frames(frames):
        session.step(frame)
    return session.finish()


@pytest.mark.parametrize("use_graphs", [True, False])
def test_it_finds_what_the_host_chain_finds(
    engines: TensorRtEngines, device: FakeDevice, lite_bundle: Path, use_graphs: bool
) -> None:
    model = load(lite_bundle, "onnxruntime", threads=1)
    chain = TensorRtChain(device, engines._engines, engines.contract, use_graphs)
    ours = run(chain, model.inference, 14)
    theirs = run(model.engines.chain(), model.inference, 14)
    assert len(ours) == len(theirs) > 0
    for mine, its in zip(ours, theirs, strict=True):
        assert (mine.track_id, mine.label) == (its.track_id, its.label)
        assert mine.score == pytest.approx(its.score, abs=1e-6)
        assert mine.segmentations == its.segmentations
    assert bool(device.counts["graph launch"]) == use_graphs


@pytest.mark.parametrize("use_graphs", [True, False])
def test_graphs_are_timed_on_the_device(
    engines: TensorRtEngines, device: FakeDevice, use_graphs: bool
) -> None:
    """Each graph and copy between its own two events, added up, and only those that were done."""
    chain = TensorRtChain(device, engines._engines, engines.contract, use_graphs)
    assert chain.device_ms() == {}
    image = np.zeros((*chain.input_size, 3), np.uint8)
    valid = np.zeros(chain.slots + 1, bool)
    valid[-1] = True
    for _ in range(3):
        chain.frame(image, valid)
    assert chain.device_ms() == {"upload": 1.0, "frame graph": 1.0, "download": 1.0}
    chain.store(0)
    chain.decode(np.arange(DECODE_LIMIT + 2))
    assert chain.device_ms() == {
        "upload": 1.0, "frame graph": 1.0, "memory graph": 1.0, "decode graph": 2.0,
        "download": 5.0,
    }  # fmt: skip
    session = Session(chain, InferenceConfig())
    session.step(next(iter(sample_frames(1))))
    assert session.device_ms()["frame graph"] == 1.0


def test_engines_for_several_streams(
    library: TensorRtLibrary,
    device: FakeDevice,
    batched_bundle: Path,
    lite_bundle: Path,
    tmp_path: Path,
) -> None:
    """Each stream takes one place of the batch, and finds what it finds with engines of its own."""
    several = load_plans(library, device, batched_bundle, tmp_path)
    model = load(lite_bundle, "onnxruntime", threads=1)
    ours = run(several.group(2).chains[1], model.inference, 8)
    theirs = run(model.engines.chain(), model.inference, 8)
    assert [mine.segmentations for mine in ours] == [its.segmentations for its in theirs]
    assert len(ours) > 0


@pytest.mark.parametrize("use_graphs", [True, False])
def test_several_streams_go_through_the_engines_together(
    library: TensorRtLibrary,
    device: FakeDevice,
    batched_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    use_graphs: bool,
) -> None:
    """Whoever has a frame takes part; what each yields is what it yields alone, bit for bit."""
    engines = load_plans(library, device, batched_bundle, tmp_path)
    model = load(batched_bundle, "onnxruntime", threads=1)
    frames = list(sample_frames(9))
    videos = [frames, frames[::-1], frames[3:], [frame[:, ::-1].copy() for frame in frames]]
    alone = []
    for video in videos:
        session = model.session(record=False)
        alone.append([session.step(frame) for frame in video])

    def group(self: TensorRtEngines, streams: int) -> TensorRtGroup:
        device, loaded, contract = self.parts()
        return TensorRtGroup(device, loaded, contract, streams, 3, use_graphs)

    monkeypatch.setattr(TensorRtEngines, "group", group)
    chance = np.random.default_rng(3)
    done: list[list[Any]] = [[] for _ in videos]
    with Streams(replace(model, engines=engines), [None] * len(videos)) as streams:
        while any(len(seen) < len(video) for seen, video in zip(done, videos, strict=True)):
            ready = {
                stream: video[len(seen)]
                for stream, (seen, video) in enumerate(zip(done, videos, strict=True))
                if len(seen) < len(video) and chance.random() < 0.8
            }
            for stream, instances in streams.step(ready).items():
                done[stream].append(instances)
    assert sum(len(each) for each in alone[0]) > 10
    for mine, its in zip(done, alone, strict=True):
        for found, expected in zip(mine, its, strict=True):
            assert found.track_id.tolist() == expected.track_id.tolist()
            assert np.array_equal(found.score, expected.score)
            assert np.array_equal(found.input_masks, expected.input_masks)


def test_what_a_frame_of_several_streams_costs(
    library: TensorRtLibrary, device: FakeDevice, batched_bundle: Path, tmp_path: Path
) -> None:
    """One upload for all, one call of each engine, one wait, a small download a stream."""
    group = load_plans(library, device, batched_bundle, tmp_path).group(3)
    chain = group.chains[0]
    images = [np.zeros((*chain.input_size, 3), np.uint8)] * 3
    valid = [np.arange(chain.slots + 1) == chain.slots] * 3
    for slot in range(2):
        group.frame(0, images, valid)
        group.store(0, [slot] * 3)
        chain.decode(np.arange(2))
    device.counts.clear()
    group.frame(0, images, valid)
    group.store(0, [0] * 3)
    assert device.counts["upload"] == 2  # the images, and which slots are valid
    assert device.counts["upload bytes"] == 3 * (images[0].nbytes + valid[0].nbytes)
    assert device.counts["graph launch"] == 2
    assert device.counts["download"] == 3
    assert device.counts["wait"] == 1
    assert device.counts["engine"] == device.counts["allocation"] == 0
    chain.decode(np.arange(2))
    assert device.counts["event"] == 0  # those of the frames before are used again
    assert chain.device_ms() == {"decode graph": 1.0, "download": 2.0}  # of this frame alone


def test_the_next_frame_can_go_up_early(engines: TensorRtEngines, lite_bundle: Path) -> None:
    first, second = engines.chain(), engines.chain()
    frames = [resize_frame(frame, first.input_size) for frame in sample_frames(5)]
    valid = np.zeros(first.slots + 1, bool)
    valid[-1] = True
    for number, frame in enumerate(frames):
        plain = [each.copy() for each in second.frame(frame, valid)]
        early = [each.copy() for each in first.frame(frame, valid)]
        if number + 1 < len(frames):
            first.prefetch(frames[number + 1])
        # The host goes on with this frame's results; they must not be the next one's.
        assert first.decode(np.arange(3)).area.shape == (3,)
        for mine, its in zip(early, plain, strict=True):
            assert np.array_equal(mine, its)


def test_what_a_frame_costs(engines: TensorRtEngines, device: FakeDevice) -> None:
    """One frame up, one block down; memory is filled on the device; nothing is allocated."""
    chain = engines.chain()
    image = np.zeros((*chain.input_size, 3), np.uint8)
    valid = np.zeros(chain.slots + 1, bool)
    valid[-1] = True
    for slot in range(2):  # both image buffers have been recorded then
        chain.frame(image, valid)
        chain.store(slot)
    small = sum(chain.read(name).nbytes for name in ("scores", "query", "key", "kernels"))
    device.counts.clear()
    chain.frame(image, valid)
    chain.store(0)
    assert device.counts["upload"] == 2  # the image, and which slots are valid
    assert device.counts["upload bytes"] == image.nbytes + valid.nbytes
    assert device.counts["download"] == 1
    assert small <= device.counts["download bytes"] < small + 4 * 256
    assert device.counts["copy"] == 1  # the key into its slot
    assert device.counts["graph launch"] == 2
    assert device.counts["engine"] == device.counts["allocation"] == 0
    assert device.counts["wait"] == 1


def test_two_streams_share_engines_and_nothing_else(
    engines: TensorRtEngines, lite_bundle: Path
) -> None:
    inference = load(lite_bundle, "onnxruntime", threads=1).inference
    alone = run(engines.chain(), inference, 8)
    sessions = [Session(engines.chain(), inference) for _ in range(2)]
    for frame in sample_frames(8):
        sessions[0].step(frame)
        sessions[1].step(frame[:, ::-1].copy())
    assert sessions[0].finish() == alone


def test_no_room(library: TensorRtLibrary, engines: TensorRtEngines) -> None:
    small = FakeDevice(capacity=10_000)
    with pytest.raises(VisoloError, match="no room"):
        TensorRtChain(small, engines._engines, engines.contract)


def test_plans_that_cannot_be_used(
    library: TensorRtLibrary, lite_bundle: Path, tmp_path: Path
) -> None:
    contract, plan = Bundle(lite_bundle).manifest.contract, tmp_path / "frame.engine"
    plan.write_bytes(b"half a pl")
    with pytest.raises(VisoloError, match=r"cannot load '.*frame.engine': the plan is damaged"):
        library.load(plan, contract["frame"])
    plan.write_bytes(str(lite_bundle / "memory.onnx").encode())
    with pytest.raises(VisoloError, match="contract"):
        library.load(plan, contract["frame"])


def test_engines_for_another_version_or_gpu(lite_bundle: Path) -> None:
    bundle = Bundle(lite_bundle)
    graphs = GraphFiles(
        format="tensorrt-rtx", precision="fp32", files={}, library="1.7.1", targets=["sm86"]
    )
    check_fit(bundle, graphs, "1.7.1", "sm86")
    with pytest.raises(VisoloError, match=r"built by tensorrt-rtx 1.7.1, here it is 1.8.0.*export"):
        check_fit(bundle, graphs, "1.8.0", "sm86")
    with pytest.raises(VisoloError, match=r"for sm86, this GPU is sm89.*--target sm89"):
        check_fit(bundle, graphs, "1.7.1", "sm89")


@pytest.mark.parametrize(
    ("fake", "real"), [(FakeEngine, "ICudaEngine"), (FakeContext, "IExecutionContext")]
)
def test_the_fake_is_named_as_the_real_one(fake: type, real: str) -> None:
    """Names, and numbers of arguments as the bindings' own documentation has them."""
    trt = pytest.importorskip("tensorrt_rtx", reason="install tensorrt-rtx")
    binding = getattr(trt, real)
    for name, method in vars(fake).items():
        if name.startswith("_"):
            continue
        assert hasattr(binding, name), name
        told = getattr(binding, name).__doc__
        signature = re.match(rf"{name}\((.*?)\) ->", told.strip())
        if signature and "*args" not in signature[1]:
            count = len(re.findall(r"\w+: ", signature[1]))
            assert method.__code__.co_argcount == count, (name, signature[0])
    assert hasattr(trt.ICudaEngine, "num_io_tensors")
    assert hasattr(trt.Runtime, "deserialize_cuda_engine")
