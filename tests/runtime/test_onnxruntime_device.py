"""ONNX Runtime with all that is dense on its device: on the CPU, and on a GPU that is none."""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from fake_onnxruntime import FakeGpu, FakeOnnxRuntime, FakeStream
from helpers import first_frame, run_visolo, threshold_for
from skips import NO_COMPILER
from visolo_core.contract import GraphName, GraphSpec
from visolo_core.errors import NotHereError, VisoloError
from visolo_core.instances import Instances
from visolo_runtime.bundle import Bundle
from visolo_runtime.engines.buffers import DECODE_LIMIT, KEPT, Buffers, FrameInput, Storage
from visolo_runtime.engines.engine import Engines
from visolo_runtime.engines.onnxruntime import device_tensors, gpu_backend
from visolo_runtime.engines.onnxruntime.backend import Providers
from visolo_runtime.engines.onnxruntime.cuda_stream import GpuStream
from visolo_runtime.engines.onnxruntime.device import _COPY_MODEL, OrtDevice
from visolo_runtime.engines.onnxruntime.gpu_backend import OrtDeviceBackend, open_on_gpu
from visolo_runtime.engines.onnxruntime.provider_options import TF32, engine_cache, without_tf32
from visolo_runtime.session.loading import load
from visolo_runtime.session.session import Session
from visolo_runtime.session.stream import StreamFrame
from visolo_runtime.session.streams import Streams
from visolo_runtime.video.sample_clip import sample_frames

Opened = Callable[[Path], Engines]


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The user's cache; and nothing is said of TF32, then as now."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv(TF32, "")
    monkeypatch.delenv(TF32)
    return tmp_path / "cache" / "visolo"


class OnGpu:
    """Opens bundles on a GPU that is none."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, lazy: bool = True) -> None:
        self.gpu = FakeGpu(lazy)
        self.onnxruntime = FakeOnnxRuntime(self.gpu)
        for name, stand_in in {
            "import_with_provider": lambda provider: self.onnxruntime,
            "load_gpu_libraries": lambda module, provider: None,
            "gpu_stream": lambda index: FakeStream(self.gpu),
        }.items():
            monkeypatch.setattr(gpu_backend, name, stand_in)

    def __call__(self, folder: Path, provider: Any = "cuda") -> Engines:
        bundle = Bundle(folder)
        return open_on_gpu(bundle, bundle.graphs("onnx", "fp32"), provider)


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> OnGpu:
    return OnGpu(monkeypatch)


class OneThread:
    """ONNX Runtime with one thread: more of them sum in another order."""

    __version__ = onnxruntime.__version__
    SessionOptions = onnxruntime.SessionOptions
    RunOptions = onnxruntime.RunOptions
    OrtValue = onnxruntime.OrtValue

    @staticmethod
    def InferenceSession(model: Any, options: Any, **rest: Any) -> Any:
        options.intra_op_num_threads = 1
        return onnxruntime.InferenceSession(model, options, **rest)


def on_cpu(folder: Path) -> Engines:
    """The same buffers over values of ONNX Runtime in the host's memory."""
    cpu: Providers = [("CPUExecutionProvider", {})]

    def providers(graph: GraphName, spec: GraphSpec, records: bool) -> Providers | None:
        return None if records else cpu

    bundle = Bundle(folder)
    files = bundle.files_of(bundle.graphs("onnx", "fp32"))
    backend = OrtDeviceBackend(OrtDevice(OneThread, "cpu", cpu), files, providers, "CPU")
    return Engines.compile(backend, bundle.manifest.contract, bundle.manifest.batch)


every_form = pytest.mark.parametrize(
    "opened", ["cpu", "late", "at once", "tensorrt"], indirect=True
)
"""Values on the CPU; on the GPU, work done as late as possible or at once, and both providers."""


@pytest.fixture(params=["cpu", "late"])
def opened(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Opened:
    """Opens a bundle in one of these forms."""
    if request.param == "cpu":
        return on_cpu
    gpu = OnGpu(monkeypatch, lazy=request.param != "at once")
    if request.param == "tensorrt":
        return lambda folder: gpu(folder, "tensorrt")
    return gpu


LAST_BIT = 2e-7
"""ONNX Runtime multiplies a single kernel in another order than eight on the CPU, and a device
computes no fewer than eight masks."""


def equal(ours: Instances, theirs: Instances) -> None:
    """Bit for bit, but for scores of a frame with one mask: see ``LAST_BIT``."""
    for name in ("frame", "tracker_id", "class_id", "cell"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name), err_msg=name)
    for name in ("confidence", "track_confidence"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=LAST_BIT)
    np.testing.assert_array_equal(ours.input_masks, theirs.input_masks)


# ------------------------------------------------------------------------ what is computed


def finds_nothing_in(session: Session, frames: set[int]) -> None:
    """Let no cell of some frames reach the threshold."""
    usual = session.stream.inputs

    def inputs(frame: StreamFrame) -> FrameInput:
        given = usual(frame)
        return replace(given, score_threshold=1.0) if frame.number in frames else given

    session.stream.inputs = inputs  # type: ignore[method-assign]


@every_form
def test_a_clip_with_thinned_memory_and_empty_frames(opened: Opened, lite_bundle: Path) -> None:
    """More frames than the slots keep; some of them have nothing in them."""
    host = load(lite_bundle, "onnxruntime", threads=1)
    host = replace(host, inference=replace(host.inference, memory_slots=3, keep_every=1))
    device = replace(host, engines=opened(lite_bundle))
    ours, theirs = (model.session(record=False) for model in (device, host))
    for session in (ours, theirs):
        finds_nothing_in(session, {3, 4, 8})
    counts = []
    for frame in sample_frames(10):
        mine, its = ours.step(frame), theirs.step(frame)
        equal(mine, its)
        counts.append(len(its))
    assert [number for number, count in enumerate(counts) if not count] == [3, 4, 8]


def test_several_streams_that_come_and_go(opened: Opened, batched_bundle: Path) -> None:
    """Whoever has a frame takes part, in groups of all sizes."""
    host = load(batched_bundle, "onnxruntime", threads=1)
    device = replace(host, engines=opened(batched_bundle))
    assert device.engines.buffers(4).batch == 3
    frames = list(sample_frames(8))
    videos = [frames, frames[::-1], frames[3:] + frames[:3], [each[:, ::-1] for each in frames]]
    chance, found = np.random.default_rng(5), 0
    with Streams(device, [None] * 4) as ours, Streams(host, [None] * 4) as theirs:
        for number in range(8):
            ready = {
                stream: np.ascontiguousarray(video[number])
                for stream, video in enumerate(videos)
                if chance.random() < 0.75
            }
            mine, its = ours.step(ready), theirs.step(ready)
            for stream in ready:
                equal(mine[stream], its[stream])
                found += len(its[stream])
    assert found > 20


def test_what_does_not_end_where_an_aligned_address_is(
    opened: Opened, batched_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows are padded and go through alone, and values are copied into their slots."""
    monkeypatch.setattr(device_tensors, "_ALIGNMENT", 2**16)
    host = load(batched_bundle, "onnxruntime", threads=1)
    device = replace(host, engines=opened(batched_bundle))
    assert device.engines.buffers(2).batch == 1
    with Streams(device, [None] * 2) as ours, Streams(host, [None] * 2) as theirs:
        for frame in sample_frames(4):
            frames = {0: frame, 1: frame[::-1].copy()}
            for mine, its in zip(
                ours.step(frames).values(), theirs.step(frames).values(), strict=True
            ):
                equal(mine, its)


@pytest.mark.parametrize("count", [1, 9, 33, 65, 252])
def test_any_number_of_candidates(opened: Opened, lite_bundle: Path, count: int) -> None:
    """Up to K, kernels are taken where the frame graph left them; then they come from the host."""
    host = load(lite_bundle, "onnxruntime", threads=1).engines.buffers()
    device = opened(lite_bundle).buffers()
    (image,) = sample_frames(1, *host.input_size)
    threshold = threshold_for(host, image, count)
    decoded = []
    for buffers in (device, host):
        buffers.submit(range(1), [first_frame(buffers, image, threshold)])
        (candidates,) = buffers.frame()
        buffers.mask([0])
        decoded.append((candidates, buffers.decode(0, candidates.cell)))
    (mine, my_masks), (its, its_masks) = decoded
    assert len(its) == count
    for field in fields(its):
        np.testing.assert_array_equal(getattr(mine, field.name), getattr(its, field.name))
    for name in ("masks", "area", "probability_sum", "intersection"):
        ours, theirs = getattr(my_masks, name), getattr(its_masks, name)
        last_bit = LAST_BIT if name == "probability_sum" else 0
        np.testing.assert_allclose(ours, theirs, rtol=last_bit, err_msg=name)


def test_results_outlive_the_next_submission(opened: Opened, lite_bundle: Path) -> None:
    """The host still works on a frame while the device is at the next."""
    buffers = opened(lite_bundle).buffers()
    (image,) = sample_frames(1, *buffers.input_size)
    threshold = threshold_for(buffers, image, 5)
    buffers.submit(range(1), [first_frame(buffers, image, threshold)])
    (candidates,) = buffers.frame()
    buffers.mask([0])
    masks = buffers.decode(0, candidates.cell)
    results: list[Any] = [candidates.query, masks.masks, masks.area]
    kept = [each.copy() for each in results]
    buffers.submit(range(1), [first_frame(buffers, image[::-1].copy(), threshold)])
    buffers.read("res2")  # which waits
    for now, then in zip(results, kept, strict=True):
        assert np.array_equal(now, then)
    assert not np.array_equal(buffers.read("cell_query")[0, : len(kept[0])], kept[0])


def test_a_run_overlaps(on_gpu: OnGpu, lite_bundle: Path) -> None:
    """Each frame begins before the host has followed the one ahead of it."""
    host = load(lite_bundle, "onnxruntime", threads=1)
    session = host.session()
    with Streams(replace(host, engines=on_gpu(lite_bundle)), [None]) as streams:
        assert streams.overlap
        frames = list(sample_frames(6))
        ahead = streams.begin({0: frames[0]})
        for number, frame in enumerate(frames):
            step = ahead
            step.compute()
            if number + 1 < len(frames):
                ahead = streams.begin({0: frames[number + 1]})
            equal(step.follow()[0], session.step(frame))


def test_every_tensor_can_be_read_and_written(opened: Opened, batched_bundle: Path) -> None:
    """As verification does; kernels that were written are those that are decoded."""
    host = load(batched_bundle, "onnxruntime", threads=1).engines.buffers(3)
    device = opened(batched_bundle).buffers(3)
    images = list(sample_frames(2, *host.input_size))
    threshold = threshold_for(host, images[0], 5)
    rows = range(1, 3)
    for buffers in (device, host):
        buffers.submit(rows, [first_frame(buffers, image, threshold) for image in images])
        buffers.frame()
        buffers.mask(rows)
        buffers.store(rows, [Storage(2, keeps_previous=False), Storage(1, keeps_previous=True)])
    for name in host.specs:
        for row in rows:
            ours, theirs = device.read(name, row), host.read(name, row)
            np.testing.assert_array_equal(ours, theirs, err_msg=f"{name} {row}")
    for name in host.specs:
        values = np.flip(host.read(name, 2)).copy()
        for buffers in (device, host):
            buffers.write(name, values, 2)
        np.testing.assert_array_equal(device.read(name, 2), values, err_msg=name)
    cells = np.arange(3)
    np.testing.assert_array_equal(device.decode(2, cells).masks, host.decode(2, cells).masks)


def test_a_session_begins_with_empty_memory(opened: Opened, lite_bundle: Path) -> None:
    """In the workplace that an earlier one has left, which is full of its frames; the last of them
    may still be on its way there."""
    engines = opened(lite_bundle)
    before = engines.buffers()
    for name in KEPT:
        before.write(name, np.full(before.read(name).shape, np.nan, np.float32))
    a_frame(before, 1.0)
    del before
    after = engines.buffers()
    for name in KEPT:
        assert not after.read(name).any()


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_verification_of_every_tensor(on_gpu: OnGpu, lite_bundle: Path, provider: str) -> None:
    command = ("verify", lite_bundle, "--reference", lite_bundle, "--frames", 2)
    run_visolo(*command, "--backend", f"onnxruntime-{provider}").succeeded()


# ---------------------------------------------------------------------------- what it costs


def a_frame(buffers: Buffers, threshold: float) -> int:
    """An image of one row, from the host's call to the stored frame; the number of candidates."""
    (image,) = sample_frames(1, *buffers.input_size)
    buffers.submit(range(1), [first_frame(buffers, image, threshold)])
    (candidates,) = buffers.frame()
    if len(candidates):
        buffers.mask([0])
        buffers.decode(0, candidates.cell)
    buffers.store(range(1), [Storage(0, keeps_previous=False)])
    return len(candidates)


@pytest.mark.parametrize("candidates", [0, 1, 12, 40])
def test_what_goes_up_and_comes_down(on_gpu: OnGpu, lite_bundle: Path, candidates: int) -> None:
    """The image and a few flags; what is known about the cells, and the masks of those chosen."""
    gpu, buffers = on_gpu.gpu, on_gpu(lite_bundle).buffers()
    (image,) = sample_frames(1, *buffers.input_size)
    threshold = threshold_for(buffers, image, candidates)
    a_frame(buffers, threshold)
    gpu.bytes.clear()
    gpu.counts.clear()
    assert a_frame(buffers, threshold) == candidates
    height, width = buffers.input_size
    runs = -(-candidates // DECODE_LIMIT)
    assert 0 <= gpu.bytes["up"] - height * width * 3 < 4 * 256
    small = gpu.bytes["down"] - candidates * height * width
    assert 0 < small < 20_000 + runs * 5_000
    assert gpu.counts["wait"] == 1 + runs
    assert gpu.counts["mask"] == min(1, runs)
    assert gpu.counts["decode"] == runs
    assert gpu.counts["frame"] == gpu.counts["memory"] == 1
    # The cells, the key to the slot and to the recent ones; of each run, masks and counts.
    assert gpu.counts["copy"] == 3 + 2 * runs
    assert gpu.counts["allocation"] == 0


def test_recordings(on_gpu: OnGpu, lite_bundle: Path) -> None:
    """Of the frame and mask graphs, and of the decode graph for each number of masks; sessions that
    follow take them over, since ONNX Runtime never frees them."""
    gpu = on_gpu.gpu
    engines = on_gpu(lite_bundle)
    assert gpu.counts["recording"] == 5
    for _ in range(3):
        buffers = engines.buffers()
        (image,) = sample_frames(1, *buffers.input_size)
        for count in (0, 5, 12, 30):
            a_frame(buffers, threshold_for(buffers, image, count))
        del buffers
    assert gpu.counts["recording"] == 5
    first, second = engines.buffers(), engines.buffers()  # at the same time, so in other memory
    a_frame(first, 1.0)
    a_frame(second, 1.0)
    assert gpu.counts["recording"] == 6


def test_what_cannot_be_recorded_runs_plainly(
    on_gpu: OnGpu, lite_bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    on_gpu.onnxruntime.not_recorded = ("frame",)
    with caplog.at_level(logging.INFO):
        engines = on_gpu(lite_bundle)
    assert "the frame graph is not recorded as a CUDA graph" in caplog.text
    assert "cannot use the graph capture feature" in caplog.text
    assert on_gpu.gpu.counts["recording"] == 4
    host = load(lite_bundle, "onnxruntime", threads=1)
    ours, theirs = replace(host, engines=engines).session(), host.session()
    for frame in sample_frames(3):
        equal(ours.step(frame), theirs.step(frame))


def test_memory_goes_with_the_model_and_its_sessions(on_gpu: OnGpu, lite_bundle: Path) -> None:
    """At once, and not when Python looks for cycles."""
    engines = on_gpu(lite_bundle)
    buffers = engines.buffers()
    gc.disable()
    try:
        del engines
        a_frame(buffers, 1.0)
        assert on_gpu.gpu.live > 10
        del buffers
        assert on_gpu.gpu.live == 0
    finally:
        gc.enable()


def test_a_recording_that_breaks(
    on_gpu: OnGpu, lite_bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody else has allocated meanwhile, so it goes on without; what is recorded stays so."""
    host = load(lite_bundle, "onnxruntime", threads=1)
    device = replace(host, engines=on_gpu(lite_bundle))
    taken = device.engines.buffers()  # so that the session needs recordings of its own
    ours, theirs = device.session(), host.session()
    on_gpu.gpu.breaks = True
    frames = list(sample_frames(4))
    equal(ours.step(frames[0]), theirs.step(frames[0]))
    on_gpu.gpu.breaks = False
    on_gpu.gpu.counts.clear()
    for frame in frames[1:]:
        equal(ours.step(frame), theirs.step(frame))
    a_frame(taken, 1.0)
    assert "not recorded as a CUDA graph and costs more each frame" in caplog.text
    assert "CUDA error 900" in caplog.text
    assert on_gpu.gpu.counts["recording"] < 3  # of other numbers of masks


def test_sessions_in_threads(on_gpu: OnGpu, lite_bundle: Path) -> None:
    """Each thread records for itself, as ONNX Runtime has it, and no two use the GPU at once."""
    host = load(lite_bundle, "onnxruntime", threads=1)
    device = replace(host, engines=on_gpu(lite_bundle))
    frames = list(sample_frames(5))
    session = host.session(record=False)
    expected = [session.step(frame) for frame in frames]
    results: list[list[Instances]] = []

    def work() -> None:
        session = device.session(record=False)
        results.append([session.step(frame) for frame in frames])

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3
    for ours in results:
        for mine, its in zip(ours, expected, strict=True):
            equal(mine, its)


def test_a_failure_is_one_sentence(
    on_gpu: OnGpu, lite_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    buffers = on_gpu(lite_bundle).buffers()

    def fail(*_: object) -> None:
        raise RuntimeError("CUDA error 719:\n unspecified launch failure")

    monkeypatch.setattr(on_gpu.gpu, "give", fail)
    with pytest.raises(VisoloError, match=r"^ONNX Runtime cannot run a graph on cuda: CUDA error "
                       r"719: unspecified launch failure$"):  # fmt: skip
        a_frame(buffers, 1.0)


def test_no_room(on_gpu: OnGpu, lite_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engines = on_gpu(lite_bundle)

    def no_room(*_: object) -> None:
        raise RuntimeError("Failed to allocate memory")

    monkeypatch.setattr(on_gpu.onnxruntime, "ortvalue_from_shape_and_type", no_room)
    with pytest.raises(VisoloError, match=r"has no room for \d+ bytes on cuda: Failed to alloc"):
        engines.buffers(7)


# ------------------------------------------------------------------------- masks handed out


def test_masks_are_handed_out_on_the_device(opened: Opened, lite_bundle: Path) -> None:
    """They stay what they are while others follow."""
    model = replace(load(lite_bundle, "onnxruntime", threads=1), engines=opened(lite_bundle))
    session = model.session(record=False, device_masks=True)
    steps = [session.step(frame) for frame in sample_frames(6)]
    assert sum(map(len, steps)) > 10
    for instances in steps:
        assert instances.device_masks is not None
        assert len(instances.device_masks) == len(instances)
        for mask, its in zip(instances.device_masks, instances.input_masks, strict=True):
            address = mask._array.address
            lies = (ctypes.c_uint8 * its.size).from_address(address)
            assert np.array_equal(np.frombuffer(lies, np.uint8).reshape(its.shape), its)
            assert mask.shape == its.shape
            kind, index = mask.__dlpack_device__()
            assert index == 0
            if kind != 1:
                assert mask.__cuda_array_interface__["data"] == (address, False)


def test_memory_is_given_out_again_when_nobody_reads_it(on_gpu: OnGpu, lite_bundle: Path) -> None:
    """ONNX Runtime takes it back as soon as it is dropped, so the whole device is waited for."""
    buffers = on_gpu(lite_bundle).buffers()
    (image,) = sample_frames(1, *buffers.input_size)
    threshold = threshold_for(buffers, image, 3)
    a_frame(buffers, threshold)
    buffers.hand_out_masks()
    on_gpu.gpu.counts.clear()
    a_frame(buffers, threshold)
    assert on_gpu.gpu.counts["device wait"] == on_gpu.gpu.counts["allocation"] == 1


# ------------------------------------------------------------------------ what providers get


def test_options_of_the_cuda_provider(on_gpu: OnGpu, lite_bundle: Path) -> None:
    on_gpu(lite_bundle)
    for graph, providers in on_gpu.onnxruntime.sessions.items():
        ((name, options),) = providers
        assert name == "CUDAExecutionProvider"
        assert options["use_tf32"] == "0"
        assert options["enable_cuda_graph"] == str(int(graph in ("frame", "mask", "decode")))
    assert TF32 not in os.environ


def test_options_of_the_tensorrt_provider(on_gpu: OnGpu, batched_bundle: Path, cache: Path) -> None:
    """Profiles for what is open, engines and timings in the user's cache, CUDA for what it leaves;
    and nothing is recorded."""
    engines = on_gpu(batched_bundle, "tensorrt")
    assert "Tensorrt, RTX" in engines.description
    sessions = on_gpu.onnxruntime.sessions
    for graph in ("frame", "mask", "decode", "memory"):
        (first, options), (second, rest) = sessions[graph]
        assert (first, second) == ("TensorrtExecutionProvider", "CUDAExecutionProvider")
        assert rest["use_tf32"] == "0"
        assert "trt_cuda_graph_enable" not in options
        assert options["trt_fp16_enable"] == options["trt_int8_enable"] == "False"
        folder = Path(options["trt_engine_cache_path"])
        assert folder.parent == cache / "onnxruntime-tensorrt"
        assert folder.is_dir()
        assert folder.name.startswith("sm86-")
        assert options["trt_timing_cache_path"] == str(folder)
        assert options["trt_engine_cache_enable"] == options["trt_timing_cache_enable"] == "True"
    decode = dict(sessions["decode"])["TensorrtExecutionProvider"]
    assert decode["trt_profile_min_shapes"] == "kernels:8x32"
    assert decode["trt_profile_max_shapes"] == "kernels:32x32"
    memory = dict(sessions["memory"])["TensorrtExecutionProvider"]
    features = "x".join(map(str, engines.contract["memory"].inputs[0].shape[1:]))
    assert memory["trt_profile_min_shapes"] == f"features:1x{features}"
    assert memory["trt_profile_max_shapes"] == f"features:3x{features}"
    frame = dict(sessions["frame"])["TensorrtExecutionProvider"]
    names = [each.partition(":")[0] for each in frame["trt_profile_opt_shapes"].split(",")]
    assert names == engines.contract["frame"].names("inputs")
    assert on_gpu.gpu.counts["recording"] == 0
    assert os.environ[TF32] == "0"


def test_a_fixed_graph_needs_no_profile(on_gpu: OnGpu, lite_bundle: Path) -> None:
    on_gpu(lite_bundle, "tensorrt")
    frame = dict(on_gpu.onnxruntime.sessions["frame"])["TensorrtExecutionProvider"]
    assert not [name for name in frame if "profile" in name]


def test_engines_are_kept_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """By GPU, weights, precision and TF32; nowhere for a user without a place."""
    folders = {
        engine_cache("sm86", "fp32", ["a", "b"]),
        engine_cache("sm89", "fp32", ["a", "b"]),
        engine_cache("sm86", "fp16", ["a", "b"]),
        engine_cache("sm86", "fp32", ["a", "c"]),
    }
    monkeypatch.setenv(TF32, "0")
    folders.add(engine_cache("sm86", "fp32", ["a", "b"]))
    assert len(folders) == 5


def test_a_cache_that_cannot_be_made_is_not_used(
    on_gpu: OnGpu, lite_bundle: Path, cache: Path
) -> None:
    cache.parent.write_text("a file where the folder should be")
    on_gpu(lite_bundle, "tensorrt")
    options = dict(on_gpu.onnxruntime.sessions["frame"])["TensorrtExecutionProvider"]
    assert "trt_engine_cache_enable" not in options


def test_tf32_is_as_it_was_where_tensorrt_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def start() -> None:
        with without_tf32():
            assert os.environ[TF32] == "0"
            raise NotHereError("no libnvinfer")

    with pytest.raises(NotHereError):
        start()
    assert TF32 not in os.environ
    monkeypatch.setenv(TF32, "1")
    with without_tf32():
        assert os.environ[TF32] == "1"


def test_a_provider_that_does_not_start(on_gpu: OnGpu, lite_bundle: Path) -> None:
    """ONNX Runtime would go on with the CPU, where an address of the GPU is none."""
    on_gpu.onnxruntime.starts = False
    with pytest.raises(NotHereError, match="CUDAExecutionProvider does not start here"):
        on_gpu(lite_bundle)


def test_the_model_that_copies() -> None:
    """The runtime has no package that writes models, so it ships the bytes of this one."""
    onnx = pytest.importorskip("onnx")
    helper, uint8 = onnx.helper, onnx.TensorProto.UINT8
    graph = helper.make_graph(
        [helper.make_node("Identity", ["source"], ["target"])],
        "copy",
        [helper.make_tensor_value_info("source", uint8, ["bytes"])],
        [helper.make_tensor_value_info("target", uint8, ["bytes"])],
    )
    opsets = [helper.make_opsetid("", 13)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.checker.check_model(model)
    assert model.SerializeToString() == _COPY_MODEL


# -------------------------------------------------------------------------------- the stream

DRIVER = """
#include <stddef.h>
static int depth, retained, streams, waits;
int cuInit(unsigned flags) { (void)flags; return 0; }
int cuDriverGetVersion(int *version) { *version = 13000; return 0; }
int cuDeviceGetCount(int *count) { *count = 2; return 0; }
int cuDeviceGet(int *device, int index) { *device = index; return 0; }
int cuDeviceGetName(char *name, int size, int device) {
  (void)size; name[0] = 'a' + device; name[1] = 0; return 0;
}
int cuDeviceTotalMem_v2(size_t *bytes, int device) { (void)device; *bytes = 8; return 0; }
int cuDeviceGetAttribute(int *value, int which, int device) {
  (void)device; *value = which == 75 ? 9 : 0; return 0;
}
int cuDevicePrimaryCtxRetain(void **context, int device) {
  retained++; *context = (void *)(size_t)(0x100 + device); return REFUSES;
}
int cuCtxPushCurrent_v2(void *context) { depth += context == (void *)0x101; return 0; }
int cuCtxPopCurrent_v2(void **context) { *context = NULL; depth--; return 0; }
int cuStreamCreate(void **stream, unsigned flags) {
  streams += depth == 1 && flags == 1; *stream = (void *)0x123456789a; return 0;
}
int cuCtxSynchronize(void) { waits += depth == 1; return depth == 1 ? 0 : 201; }
int counts(void) { return 1000 * retained + 100 * streams + 10 * waits + depth; }
"""


@pytest.fixture
def compile_driver(tmp_path: Path) -> Callable[[int], str]:
    if shutil.which("gcc") is None:
        pytest.skip(NO_COMPILER)

    def compile_it(refuses: int) -> str:
        source, library = tmp_path / "driver.c", tmp_path / f"libdriver{refuses}.so"
        source.write_text(DRIVER.replace("REFUSES", str(refuses)))
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source], check=True)
        return str(library)

    return compile_it


def test_a_stream_of_the_driver(compile_driver: Callable[[int], str]) -> None:
    """Non-blocking, in the GPU's primary context, which is current for as long as a call takes."""
    library = compile_driver(0)
    stream = GpuStream(1, library)
    assert stream.address == 0x123456789A
    assert (stream.gpu.name, stream.gpu.architecture) == ("b", "sm90")
    stream.wait_for_device()
    assert ctypes.CDLL(library).counts() == 1110
    with pytest.raises(NotHereError, match="there is no GPU 2 here: the driver lists 2"):
        GpuStream(2, library)


def test_a_driver_that_refuses(compile_driver: Callable[[int], str]) -> None:
    with pytest.raises(VisoloError, match=r"refuses cuDevicePrimaryCtxRetain \(CUDA error 2\)"):
        GpuStream(1, compile_driver(2))
