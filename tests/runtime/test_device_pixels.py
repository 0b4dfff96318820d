"""Sessions whose engines resize frames on a GPU that is none: the same instances as on the host."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fake_gpu import FakeDevice, fake_tensorrt
from helpers import Array
from pixels_on_gpu import OnGpu
from visolo_core.contract import GRAPHS
from visolo_core.errors import VisoloError
from visolo_core.instances import Instances
from visolo_core.pixels import pixel_contract
from visolo_runtime.bundle import Bundle
from visolo_runtime.engines.device_array import DeviceArray
from visolo_runtime.engines.dlpack import CUDA
from visolo_runtime.engines.engine import Engines
from visolo_runtime.engines.tensorrt.backend import TensorRtBackend
from visolo_runtime.engines.tensorrt.engine import TensorRtRuntime
from visolo_runtime.session.loading import Model, load
from visolo_runtime.session.session import Session
from visolo_runtime.session.streams import Streams
from visolo_runtime.track import track
from visolo_runtime.video.nv12 import Nv12Frame
from visolo_runtime.video.resizing import resized
from visolo_runtime.video.sample_clip import sample_frames

FRAMES = list(sample_frames(5, 120, 200))


@pytest.fixture
def on_gpu(
    device: FakeDevice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Path], Model]:
    """Opens a bundle on the fake GPU, with the graphs that resize frames."""
    monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt(device))

    def open_it(folder: Path) -> Model:
        bundle = Bundle(folder)
        files = bundle.graphs("onnx")

        def plan(file: Path) -> Path:
            path = tmp_path / f"{file.stem}.engine"
            path.write_bytes(str(file).encode())
            return path

        runtime = TensorRtRuntime("tensorrt", device)
        plans = {graph: plan(file) for graph, file in bundle.files_of(files).items()}
        contract = pixel_contract(bundle.manifest.model.input_size)
        pixels = {
            graph: runtime.load(plan(file), contract[graph])
            for graph, file in bundle.pixel_files_of(files).items()
        }
        assert plans.keys() == set(GRAPHS)
        assert len(pixels) == 2
        backend = TensorRtBackend(runtime, plans, pixels=pixels)
        manifest = bundle.manifest
        engines = Engines.compile(backend, manifest.contract, manifest.batch)
        return replace(load(folder, "onnxruntime", threads=1), engines=engines)

    return open_it


def nv12(frame: Array, make: Callable[[Array], Any] = lambda plane: plane) -> Nv12Frame:
    """Some luma and chroma."""
    height, width, _ = frame.shape
    chroma = frame[: height // 2, :, 2].copy().reshape(height // 2, width)
    return Nv12Frame(make(frame[..., 1].copy()), make(chroma))


KINDS: dict[str, Callable[[Array], Any]] = {
    "array": lambda frame: frame,
    "tensor": lambda frame: torch.from_numpy(frame),
    "picture": lambda frame: Image.fromarray(frame),
    "gpu": OnGpu,
    "gpu, of four bytes": lambda frame: OnGpu(np.dstack([frame, frame[..., :1]])[..., :3]),
    "nv12": lambda frame: nv12(frame),
    "nv12 on gpu": lambda frame: nv12(frame, OnGpu),
}


def agree(ours: list[Instances], theirs: list[Instances]) -> None:
    assert len(ours) == len(theirs)
    for mine, its in zip(ours, theirs, strict=True):
        assert mine.tracker_id.tolist() == its.tracker_id.tolist()
        assert np.array_equal(mine.input_masks, its.input_masks)


def on_host(folder: Path, frames: list[Any]) -> list[Instances]:
    session = load(folder, "onnxruntime", threads=1).session(record=False)
    return [session.step(frame) for frame in frames]


@pytest.mark.parametrize("kind", KINDS)
def test_frames_of_all_kinds(on_gpu: Callable[[Path], Model], lite_bundle: Path, kind: str) -> None:
    session = on_gpu(lite_bundle).session(record=False)
    make = KINDS["nv12" if "nv12" in kind else "array"]
    theirs = on_host(lite_bundle, [make(frame) for frame in FRAMES])
    agree([session.step(KINDS[kind](frame)) for frame in FRAMES], theirs)
    assert kind != "array" or sum(map(len, theirs)) > 0
    assert session.resize_ahead is None


def test_a_session_takes_bgr(on_gpu: Callable[[Path], Model], lite_bundle: Path) -> None:
    session = on_gpu(lite_bundle).session(record=False, channel_order="bgr")
    bgr = [np.ascontiguousarray(frame[..., ::-1]) for frame in FRAMES]
    ours = [session.step(OnGpu(frame) if number % 2 else frame) for number, frame in enumerate(bgr)]
    agree(ours, on_host(lite_bundle, FRAMES))


def test_frames_of_the_networks_own_size(
    on_gpu: Callable[[Path], Model], device: FakeDevice, lite_bundle: Path
) -> None:
    """They go up as images do, without an engine; unless they are on the GPU."""
    model = on_gpu(lite_bundle)
    frames = list(sample_frames(3, *model.config.input_size))
    for make in (KINDS["array"], OnGpu):
        session = model.session(record=False)
        agree([session.step(make(frame)) for frame in frames], on_host(lite_bundle, frames))


def test_streams_with_frames_of_several_kinds(
    on_gpu: Callable[[Path], Model], batched_bundle: Path
) -> None:
    """Three rows in one launch: some images are made on the device, some go up."""
    model = on_gpu(batched_bundle)
    videos = [FRAMES, list(sample_frames(5, 90, 160)), FRAMES[::-1]]
    size = model.config.input_size
    done: list[list[Instances]] = [[] for _ in videos]
    with Streams(model, [None] * 3) as streams:
        for number in range(5):
            frames: dict[int, Any] = {
                0: OnGpu(videos[0][number]) if number % 2 else videos[0][number],
                1: resized(videos[1][number], size),  # by whoever read it
                2: videos[2][number],
            }
            if number == 4:  # all images go up together
                frames = {stream: resized(videos[stream][number], size) for stream in range(3)}
            for stream, instances in streams.step(frames).items():
                done[stream].append(instances)
    for ours, video in zip(done, videos, strict=True):
        agree(ours, on_host(batched_bundle, video))


def test_what_a_frame_costs(
    on_gpu: Callable[[Path], Model], device: FakeDevice, lite_bundle: Path
) -> None:
    session = on_gpu(lite_bundle).session(record=False)
    for make in (KINDS["array"], OnGpu):
        for frame in FRAMES[:3]:
            session.step(make(frame))
        before = device.counts.copy()
        session.step(make(FRAMES[3]))
        used = device.counts - before
        assert used["allocation"] == used["engine"] == 0
        assert used["graph launch"] == 2
        assert used["wait"] == 1
    assert used["upload bytes"] < 100


def test_frames_are_let_go_when_the_step_returns(
    on_gpu: Callable[[Path], Model], lite_bundle: Path
) -> None:
    session = on_gpu(lite_bundle).session(record=False)
    frame = OnGpu(FRAMES[0].copy())
    watched = weakref.ref(frame)
    session.step(frame)
    del frame
    gc.collect()
    assert watched() is None


def test_a_frame_on_another_gpu(on_gpu: Callable[[Path], Model], lite_bundle: Path) -> None:
    session = on_gpu(lite_bundle).session(record=False)
    wrong = np.zeros((64, 64, 3), np.uint8)
    other = DeviceArray(wrong.ctypes.data, wrong.shape, "uint8", wrong, (CUDA, 1))
    with pytest.raises(VisoloError, match="is on GPU 1, but this model runs on GPU 0"):
        session.step(other)
    agree([session.step(frame) for frame in FRAMES], on_host(lite_bundle, FRAMES))


def test_a_frame_of_another_size(on_gpu: Callable[[Path], Model], lite_bundle: Path) -> None:
    session = on_gpu(lite_bundle).session(record=False)
    ours = [session.step(FRAMES[0])]
    with pytest.raises(VisoloError, match="frame 1 is 64x48, but the video began with 200x120"):
        session.step(OnGpu(np.zeros((48, 64, 3), np.uint8)))
    agree([*ours, *(session.step(frame) for frame in FRAMES[1:])], on_host(lite_bundle, FRAMES))


def test_frames_that_are_too_large_are_resized_on_the_host(
    on_gpu: Callable[[Path], Model], lite_bundle: Path
) -> None:
    session = on_gpu(lite_bundle).session(record=False)
    wide = np.repeat(FRAMES[0], 20, axis=1)
    assert wide.shape == (120, 4000, 3)
    agree([session.step(wide)], on_host(lite_bundle, [wide]))


def test_a_source_is_read_as_it_is(
    on_gpu: Callable[[Path], Model], lite_bundle: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for number, frame in enumerate(FRAMES):
        Image.fromarray(frame).save(folder / f"{number}.png")
    seen = list(track(on_gpu(lite_bundle), folder))
    assert all(np.array_equal(mine, its) for (mine, _), its in zip(seen, FRAMES, strict=True))
    agree([instances for _, instances in seen], on_host(lite_bundle, FRAMES))


def test_a_session_on_the_host_takes_no_frame_on_a_gpu(lite_bundle: Path) -> None:
    session: Session = load(lite_bundle, "onnxruntime").session()
    assert session.resize_ahead == session._buffers.input_size
    with pytest.raises(VisoloError, match="not a OnGpu on another device: copy it to the host"):
        session.step(OnGpu(FRAMES[0]))


# ------------------------------------------------------------------------------ masks handed out


def as_array(mask: Any) -> Array:
    """A mask on the fake GPU, whose memory is the host's."""
    interface = mask.__cuda_array_interface__
    described = type("Described", (), {"__array_interface__": dict(interface)})()
    return np.asarray(described)


def test_masks_on_the_device(on_gpu: Callable[[Path], Model], lite_bundle: Path) -> None:
    """The masks of the host, at the network's size, however many frames follow."""
    session = on_gpu(lite_bundle).session(record=False, device_masks=True)
    ours = []
    for frame in FRAMES:
        ours.append(session.step(frame))
        handed_out = ours[-1].device_masks
        assert handed_out is not None
        for mask, its in zip(handed_out, ours[-1].input_masks, strict=True):
            assert np.array_equal(as_array(mask), its)  # complete when it is handed out
    assert sum(map(len, ours)) > 4
    agree(ours, on_host(lite_bundle, FRAMES))
    for instances in ours:
        for mask, its in zip(instances.device_masks or (), instances.input_masks, strict=True):
            assert mask.__dlpack_device__() == (CUDA, 0)
            assert np.array_equal(as_array(mask), its)


def test_some_of_the_masks(on_gpu: Callable[[Path], Model], lite_bundle: Path) -> None:
    session = on_gpu(lite_bundle).session(record=False, device_masks=True)
    instances = max((session.step(frame) for frame in FRAMES), key=len)
    assert len(instances) > 1
    masks = instances.device_masks
    assert masks is not None
    chosen = np.arange(len(instances)) > 0
    assert instances[chosen].device_masks == masks[1:]
    assert instances[::-1].device_masks == masks[::-1]
    assert instances[[0]].device_masks == masks[:1]
    assert instances[[]].device_masks == ()


def test_their_memory_is_freed(on_gpu: Callable[[Path], Model], lite_bundle: Path) -> None:
    """That of a frame, once none of its masks is used any more."""
    session = on_gpu(lite_bundle).session(record=False, device_masks=True)
    frames = [instances for instances in map(session.step, FRAMES) if len(instances) > 1]
    assert len(frames) > 1
    memories, kept = [], []
    for instances in frames:
        assert instances.device_masks is not None
        memories.append(weakref.ref(instances.device_masks[0]._array.owner))
        kept.append(instances.device_masks[-1])
    del frames, instances, kept[1:]
    gc.collect()
    assert [memory() is not None for memory in memories] == [True] + [False] * len(memories[1:])
    del kept
    gc.collect()
    assert memories[0]() is None


def test_masks_of_a_crowd(on_gpu: Callable[[Path], Model], lite_bundle: Path) -> None:
    """More candidates than are decoded at once."""
    model = on_gpu(lite_bundle)
    low = replace(model.inference, score_threshold=1e-6, update_threshold=0.0)
    session = replace(model, inference=low).session(record=False, device_masks=True)
    theirs = replace(load(lite_bundle, "onnxruntime", threads=1), inference=low)
    instances = session.step(FRAMES[0])
    agree([instances], [theirs.session(record=False).step(FRAMES[0])])
    assert instances.device_masks
    for mask, its in zip(instances.device_masks, instances.input_masks, strict=True):
        assert np.array_equal(as_array(mask), its)


def test_streams_hand_out_masks(on_gpu: Callable[[Path], Model], batched_bundle: Path) -> None:
    """Also while the next run of streams is under way."""
    with Streams(on_gpu(batched_bundle), [None] * 5, device_masks=True) as streams:
        for number in range(3):
            stepped = streams.step(dict.fromkeys(range(5), FRAMES[number]))
            for instances in stepped.values():
                assert instances.device_masks is not None
                for mask, its in zip(instances.device_masks, instances.input_masks, strict=True):
                    assert np.array_equal(as_array(mask), its)


def test_masks_stay_on_the_host_unless_asked_for(
    on_gpu: Callable[[Path], Model], lite_bundle: Path
) -> None:
    assert on_gpu(lite_bundle).session(record=False).step(FRAMES[0]).device_masks is None
    model = load(lite_bundle, "onnxruntime")
    with pytest.raises(VisoloError, match="this backend has no masks on a GPU to hand out"):
        model.session(device_masks=True)
    with pytest.raises(VisoloError, match="leave device_masks out"):
        Streams(model, [None], device_masks=True)


def test_engines_of_a_stream_share_what_they_work_in(
    on_gpu: Callable[[Path], Model], device: FakeDevice, batched_bundle: Path
) -> None:
    """One piece of memory for every engine, number of rows, number of masks and kind of frame, and
    another for another session, which may run at the same time."""
    model = on_gpu(batched_bundle)

    def pieces() -> set[str]:
        return {name for name in device.counts if name.startswith("scratch at")}

    device.counts.clear()
    with Streams(model, [None] * 3) as streams:
        for frame in FRAMES:
            streams.step({0: frame, 1: nv12(frame), 2: frame[:96]})
            streams.step({1: nv12(frame), 2: frame[:96]})
    assert len(pieces()) == 1
    assert sum(device.counts[name] for name in pieces()) > 8
    assert device.counts["contexts with memory of their own"] == 0
    other = model.session()
    other.step(FRAMES[0])
    assert len(pieces()) == 2
