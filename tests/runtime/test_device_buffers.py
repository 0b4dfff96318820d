"""Buffers on a GPU that is none: order of work, addresses, copies, and what it costs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alone import alone, same
from fake_gpu import (
    FakeDevice,
)
from helpers import LIMIT_S, first_frame, threshold_for
from played_engines import load_plans, run
from visolo_core.decoding import Candidates
from visolo_core.errors import VisoloError
from visolo_runtime.engines.buffers import DECODE_LIMIT, Buffers, Storage, fixed_count
from visolo_runtime.engines.engine import Engines
from visolo_runtime.engines.tensorrt.device_buffers import DeviceBuffers
from visolo_runtime.engines.tensorrt.engine import TensorRtRuntime
from visolo_runtime.session.loading import load
from visolo_runtime.session.session import Session
from visolo_runtime.session.streams import Streams
from visolo_runtime.video.sample_clip import sample_frames

pytestmark = pytest.mark.timeout(2 * LIMIT_S, func_only=True)
"""What waits for ever is shown with the stacks of all threads."""


NOTHING, SOMETHING = 0, 12
"""Numbers of candidates in a frame."""


def a_frame(buffers: Buffers, rows: range = range(1), threshold: float = 1.0) -> list[Candidates]:
    """An image for each row, from the host's call to the stored frame."""
    (image,) = sample_frames(1, *buffers.input_size)
    buffers.submit(rows, [first_frame(buffers, image, threshold)] * len(rows))
    candidates = buffers.frame()
    assert {len(each) for each in candidates} == {SOMETHING if threshold < 1 else NOTHING}
    found = [row for row, each in zip(rows, candidates, strict=True) if len(each)]
    buffers.mask(found)
    for row, each in zip(rows, candidates, strict=True):
        if len(each):
            buffers.decode(row, each.cell)
    buffers.store(rows, [Storage(0, keeps_previous=False)] * len(rows))
    return candidates


@pytest.fixture
def something(lite_bundle: Path) -> float:
    """A score threshold that some cells of the sample clip's first image reach."""
    buffers = load(lite_bundle, "onnxruntime", threads=1).engines.buffers()
    (image,) = sample_frames(1, *buffers.input_size)
    return threshold_for(buffers, image, SOMETHING)


@pytest.mark.parametrize("use_graphs", [True, False])
def test_the_same_instances_as_in_host_memory(
    runtime: TensorRtRuntime, device: FakeDevice, lite_bundle: Path, tmp_path: Path,
    use_graphs: bool,
) -> None:  # fmt: skip
    model = load(lite_bundle, "onnxruntime", threads=1)
    engines = load_plans(runtime, lite_bundle, tmp_path, use_graphs)
    ours = run(engines, model.stream_options(), 14)
    theirs = run(model.engines, model.stream_options(), 14)
    assert len(ours) == len(theirs) > 0
    for mine, its in zip(ours, theirs, strict=True):
        assert (mine.track_id, mine.label) == (its.track_id, its.label)
        assert mine.score == pytest.approx(its.score, abs=1e-6)
        assert mine.segmentations == its.segmentations
    assert bool(device.counts["graph launch"]) == use_graphs


@pytest.mark.parametrize("use_graphs", [True, False])
def test_graphs_are_timed_on_the_device(
    runtime: TensorRtRuntime, device: FakeDevice, lite_bundle: Path, tmp_path: Path,
    use_graphs: bool, something: float,
) -> None:  # fmt: skip
    """Each graph and copy between its own two events, summed, and only if someone wants to know."""
    buffers = load_plans(runtime, lite_bundle, tmp_path, use_graphs).buffers()
    a_frame(buffers)
    assert buffers.device_ms() == {}
    buffers.measured = True
    a_frame(buffers, threshold=something)
    a_frame(buffers, threshold=something)
    assert buffers.device_ms() == {
        "upload": 4.0, "frame graph": 1.0, "mask graph": 1.0, "decode graph": 1.0,
        "download": 2.0, "memory graph": 1.0,
    }  # fmt: skip
    buffers.decode(0, np.arange(DECODE_LIMIT + 2))
    assert buffers.device_ms()["decode graph"] == 3.0
    model = load(lite_bundle, "onnxruntime", threads=1)
    session = Session(buffers, model.stream_options())
    (image,) = sample_frames(1)
    assert session.device_ms(image)["frame graph"] == 1.0
    assert not buffers.measured


def test_engines_for_several_streams(
    runtime: TensorRtRuntime,
    device: FakeDevice,
    batched_bundle: Path,
    lite_bundle: Path,
    tmp_path: Path,
) -> None:
    """A stream takes one row of the batch, and yields what it yields with engines of its own."""
    several = load_plans(runtime, batched_bundle, tmp_path)
    model = load(lite_bundle, "onnxruntime", threads=1)
    ours = run(several, model.stream_options(), 8, rows=2)
    theirs = run(model.engines, model.stream_options(), 8)
    assert [mine.segmentations for mine in ours] == [its.segmentations for its in theirs]
    assert len(ours) > 0


@pytest.mark.parametrize("use_graphs", [True, False])
@pytest.mark.parametrize("unaligned", [False, True])
def test_several_streams_go_through_the_engines_together(
    runtime: TensorRtRuntime,
    device: FakeDevice,
    batched_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    use_graphs: bool,
    unaligned: bool,
) -> None:
    """Whoever has a frame takes part; what each yields is what it yields alone.

    Where a row would end between two aligned addresses it is padded, and goes through alone.
    """
    if unaligned:
        monkeypatch.setattr("visolo_runtime.engines.tensorrt.device_block._ALIGNMENT", 2**20)
    engines = load_plans(runtime, batched_bundle, tmp_path, use_graphs)
    assert engines.buffers(4).batch == (1 if unaligned else 3)
    model = load(batched_bundle, "onnxruntime", threads=1)
    frames = list(sample_frames(9))
    videos = [frames, frames[::-1], frames[3:], [frame[:, ::-1].copy() for frame in frames]]
    expected = [alone(model, video) for video in videos]
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
    assert sum(len(each.instances) for each in expected[0]) > 10
    for mine, its in zip(expected, done, strict=True):
        for first, other in zip(mine, its, strict=True):
            same(first, other)


def test_recordings_of_groups_of_all_sizes(
    runtime: TensorRtRuntime, device: FakeDevice, batched_bundle: Path, tmp_path: Path
) -> None:
    """A recording is right as long as its context keeps the shapes that it was recorded with: a
    context for each number of rows, and none of the recordings is made again."""
    buffers = load_plans(runtime, batched_bundle, tmp_path).buffers(3)
    image = next(iter(sample_frames(1, *buffers.input_size)))
    groups = [range(3), range(1), range(2), range(1, 3), range(2, 3)]

    def scores(rows: range) -> list[Any]:
        buffers.submit(rows, [first_frame(buffers, image, threshold=0.0)] * len(rows))
        buffers.frame()
        return [buffers.read("scores", row)[0].copy() for row in rows]

    for _ in range(2):  # either set of arrays for the results
        recorded = [scores(rows) for rows in groups]
        scores(range(1))
    device.counts.clear()
    for rows, before in zip(groups, recorded, strict=True):
        assert np.array_equal(scores(rows), before)
        assert np.array_equal(before[0], recorded[0][0])
    assert device.counts["graph launch"] == len(groups)
    assert recorded[0][0].any()


def test_what_a_frame_of_several_streams_costs(
    runtime: TensorRtRuntime, device: FakeDevice, batched_bundle: Path, tmp_path: Path,
    something: float,
) -> None:  # fmt: skip
    """One launch and one wait for all; nothing dense is copied but what each slot stores."""
    buffers = load_plans(runtime, batched_bundle, tmp_path).buffers(3)
    rows = range(3)
    for _ in range(4):
        a_frame(buffers, rows, something)
    device.counts.clear()
    a_frame(buffers, rows, something)
    assert device.counts["graph launch"] == device.counts["wait"] == 1
    assert device.counts["copy"] == 9  # key, value and recent key of each stream
    for what in ("upload", "download", "engine", "allocation", "event"):
        assert device.counts[what] == 0, what


def test_what_a_frame_costs(engines: Engines, device: FakeDevice, something: float) -> None:
    """One launch, which holds all uploads and downloads; the memory is filled on the device."""
    buffers = engines.buffers()
    for threshold in (something, 1.0):
        for _ in range(4):
            a_frame(buffers, threshold=threshold)
        device.counts.clear()
        a_frame(buffers, threshold=threshold)
        assert device.counts["graph launch"] == device.counts["wait"] == 1
        assert device.counts["copy"] == 3  # value, key, recent key
        for what in ("upload", "download", "engine", "allocation", "event"):
            assert device.counts[what] == 0, what


def test_what_comes_down(engines: Engines, device: FakeDevice, something: float) -> None:
    """Under 100 KB, and the masks that are expected; the image and a few flags go up."""
    buffers = engines.buffers()
    buffers.measured = True  # which launches everything one by one, so that it is counted
    height, width = buffers.input_size
    small = []
    for threshold in (1.0, something):
        a_frame(buffers, threshold=threshold)
        device.counts.clear()
        (candidates,) = a_frame(buffers, threshold=threshold)
        masks = next(count for count in (0, 8, 16, 32) if count >= len(candidates))
        small.append(device.counts["download bytes"] - masks * height * width)
        assert device.counts["upload bytes"] == height * width * 3 + (buffers.slots + 1) + 2 + 4
    assert 0 < small[0] == small[1] < 100_000


def test_a_frame_in_which_nothing_is_found(
    engines: Engines, device: FakeDevice, something: float
) -> None:
    """Its masks are not computed; and a stream whose last frame was empty asks before they are."""
    buffers = engines.buffers()
    buffers.measured = True  # which launches engines one by one, so that they are counted

    def engines_and_waits(threshold: float) -> tuple[int, int]:
        device.counts.clear()
        a_frame(buffers, threshold=threshold)
        return device.counts["engine"], device.counts["wait"]

    engines_and_waits(1.0)
    assert engines_and_waits(1.0) == (2, 1)  # frame and memory
    assert engines_and_waits(something) == (4, 2)
    assert engines_and_waits(something) == (4, 1)


def test_more_candidates_than_were_expected(
    engines: Engines, device: FakeDevice, lite_bundle: Path
) -> None:
    """They are decoded after the first look, and as those that were expected: the same masks."""
    theirs = load(lite_bundle, "onnxruntime", threads=1).engines.buffers()
    ours = engines.buffers()
    images = list(sample_frames(2, *ours.input_size))
    for number, count in enumerate((5, 30, 60, 252)):
        threshold = threshold_for(theirs, images[number % 2], count)
        decoded = []
        for buffers in (ours, theirs):
            inputs = first_frame(buffers, images[number % 2], threshold)
            buffers.submit(range(1), [inputs])
            (candidates,) = buffers.frame()
            buffers.mask([0])
            masks = buffers.decode(0, candidates.cell)
            decoded.append((candidates, masks))
        (mine, my_masks), (its, its_masks) = decoded
        assert mine.cell.tolist() == its.cell.tolist()
        assert np.array_equal(mine.query, its.query)
        for name, expected in its_masks._asdict().items():
            np.testing.assert_array_equal(getattr(my_masks, name), expected, err_msg=name)
        assert len(mine) == count


@given(st.integers(1, 64), st.integers(1, 32))
def test_no_more_kernels_are_read_than_there_are(limit: int, masks: int) -> None:
    """Whatever the grid: all that are needed, and none behind the last."""
    limit = min(limit, DECODE_LIMIT)
    assert min(masks, limit) <= fixed_count(min(masks, limit), limit) <= limit


def test_results_outlive_the_next_launch(engines: Engines) -> None:
    """The host still works on a frame while the device is at the next."""
    buffers = engines.buffers()
    images = list(sample_frames(2, *buffers.input_size))
    threshold = threshold_for(buffers, images[0], SOMETHING)
    buffers.submit(range(1), [first_frame(buffers, images[0], threshold)])
    (candidates,) = buffers.frame()
    buffers.mask([0])
    masks = buffers.decode(0, candidates.cell)
    kept = candidates.query.copy(), masks.masks.copy(), masks.area.copy()
    buffers.submit(range(1), [first_frame(buffers, images[1][::-1].copy(), threshold)])
    buffers._stream.wait()  # type: ignore[attr-defined]
    assert np.array_equal(candidates.query, kept[0])
    assert np.array_equal(masks.masks, kept[1])
    assert np.array_equal(masks.area, kept[2])
    assert not np.array_equal(buffers.frame()[0].query, candidates.query)


def test_what_the_library_does_not_let_us_record(
    rtx: TensorRtRuntime, device: FakeDevice, lite_bundle: Path, tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """TensorRT-RTX says so when it is asked, and nothing is recorded then."""
    device.counts["refuses to be recorded"] = 1
    buffers = load_plans(rtx, lite_bundle, tmp_path).buffers()
    caplog.clear()
    for _ in range(3):
        a_frame(buffers)
    (warning,) = caplog.messages
    assert "is not recorded as one launch" in warning
    assert "cannot be recorded" in warning
    assert device.counts["graph launch"] == 0


def test_tensors_can_be_read_and_written(engines: Engines) -> None:
    """As verification does: with the device made current by the buffers themselves."""
    buffers = engines.buffers()
    a_frame(buffers)
    for name in ("memory_key", "mask_features", "scores", "kernels"):
        values = np.random.default_rng(0).random(buffers.read(name).shape, np.float32)
        buffers.write(name, values)
        assert np.array_equal(buffers.read(name), values)


def test_two_streams_share_engines_and_nothing_else(engines: Engines, lite_bundle: Path) -> None:
    options = load(lite_bundle, "onnxruntime", threads=1).stream_options()
    alone = run(engines, options, 8)
    sessions = [Session(engines.buffers(), options) for _ in range(2)]
    for frame in sample_frames(8):
        sessions[0].step(frame)
        sessions[1].step(frame[:, ::-1].copy())
    assert sessions[0].finish() == alone


def test_no_room(engines: Engines) -> None:
    with pytest.raises(VisoloError, match="no room"):
        DeviceBuffers(FakeDevice(capacity=10_000), engines, rows=1)
