"""A stream's session: state of its own, constant cost, and refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from helpers import first_frame
from mask_comparison import bounds_in
from visolo_core.config import InferenceConfig
from visolo_core.errors import VisoloError
from visolo_runtime.engines.buffers import DECODE_LIMIT
from visolo_runtime.session.loading import Model, load
from visolo_runtime.session.session import Session
from visolo_runtime.session.stream import STAGES
from visolo_runtime.video.resizing import resize_frame, resized
from visolo_runtime.video.sample_clip import sample_frames

Frame = NDArray[np.uint8]


@pytest.fixture(scope="module")
def model(lite_bundle: Path) -> Model:
    return load(lite_bundle)


@pytest.fixture(scope="module")
def clip() -> list[Frame]:
    return list(sample_frames(12, 180, 320))


def identities(session: Session, frames: list[Frame]) -> list[list[int]]:
    return [session.step(frame).tracker_id.tolist() for frame in frames]


def test_two_streams_share_nothing(model: Model, clip: list[Frame]) -> None:
    alone = identities(model.session(), clip)
    first, second = model.session(), model.session()
    together = []
    for number, frame in enumerate(clip):
        together.append(first.step(frame).tracker_id.tolist())
        if number % 2:
            second.step(clip[-number])
    assert together == alone


def test_the_same_video_twice_gives_the_same(model: Model, clip: list[Frame]) -> None:
    assert identities(model.session(), clip) == identities(model.session(), clip)


def test_instances_and_tracks_agree(model: Model, clip: list[Frame]) -> None:
    session = model.session()
    seen = [session.step(frame) for frame in clip]
    tracks = {track.track_id: track for track in session.finish()}
    assert session.frames == len(clip)
    assert sum(len(instances) for instances in seen) > 10  # or nothing is tested
    for instances in seen:
        assert instances.masks.shape == (len(instances), 180, 320)
        for at, track_id in enumerate(instances.tracker_id):
            assert tracks[track_id].segmentations[instances.frame] == instances.rles[at]
    present = sum(mask is not None for track in tracks.values() for mask in track.segmentations)
    assert present == sum(len(instances) for instances in seen)
    last = seen[-1]
    for track_id, label, score in zip(
        last.tracker_id, last.track_class_id, last.track_confidence, strict=True
    ):
        assert tracks[track_id].label == label
        assert tracks[track_id].score == pytest.approx(score)


@pytest.mark.parametrize("size", [(64, 64), (360, 200), (37, 501), (2160, 3840)])
@pytest.mark.parametrize("length", [1, 2])
def test_any_size_and_length(model: Model, size: tuple[int, int], length: int) -> None:
    """Videos of one and two frames crashed the official code (bug 1)."""
    session = model.session()
    for frame in sample_frames(length, *size):
        instances = session.step(frame)
    assert instances.masks.shape[1:] == size
    for track in session.finish():
        assert len(track.segmentations) == length
        assert all(mask is None or mask["size"] == list(size) for mask in track.segmentations)


def test_a_skipped_frame_has_no_masks_but_a_place(model: Model, clip: list[Frame]) -> None:
    session = model.session()
    session.step(clip[0])
    session.skip()
    instances = session.step(clip[1])
    assert instances.frame == 2
    assert all(track.segmentations[1] is None for track in session.finish())
    assert all(len(track.segmentations) == 3 for track in session.finish())


@pytest.mark.parametrize("slots", [0, 1, 3, 9])
def test_fewer_memory_slots_than_the_engine_has(
    model: Model, clip: list[Frame], slots: int
) -> None:
    session = replace(model, inference=InferenceConfig(memory_slots=slots)).session()
    identities(session, clip)
    assert session.stage_ms["memory graph"] > 0 or slots == 0


def test_more_memory_slots_than_the_engine_has(model: Model) -> None:
    with pytest.raises(VisoloError, match="exported with 9"):
        replace(model, inference=InferenceConfig(memory_slots=10)).session()


def test_slots_that_exist_but_are_unused_change_nothing(
    lite_weights: Path, clip: list[Frame]
) -> None:
    """Empty slots are excluded exactly, so the size of the buffer does not show."""
    few = load(lite_weights, settings=lambda config: replace(config, memory_slots=4))
    many = load(lite_weights, settings=lambda config: replace(config, memory_slots=20))
    for frame in clip[:7]:
        a, b = few.session(), many.session()
        assert np.array_equal(a.step(frame).cell, b.step(frame).cell)
    assert identities(few.session(), clip[:7]) == identities(many.session(), clip[:7])


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((0, 8, 3), np.uint8),
    ],
)
def test_what_is_not_a_frame(model: Model, frame: Any) -> None:
    with pytest.raises(VisoloError, match="uint8"):
        model.session().step(frame)


def test_a_frame_of_another_size(model: Model, clip: list[Frame]) -> None:
    session = model.session()
    session.step(clip[0])
    with pytest.raises(VisoloError, match="frame 1 is 100x50, but the video began with 320x180"):
        session.step(np.zeros((50, 100, 3), np.uint8))


def test_a_frame_that_was_resized_ahead_is_the_same(model: Model, clip: list[Frame]) -> None:
    first, other = model.session(), model.session()
    for frame in clip:
        ahead = resized(frame, model.config.input_size)
        mine, its = first.step(frame), other.step(ahead)
        assert np.array_equal(mine.masks, its.masks)
    assert mine.size == its.size == clip[0].shape[:2]
    assert first.finish() == other.finish()
    with pytest.raises(VisoloError, match="resized ahead to 64x32, but this model takes"):
        other.step(resized(clip[0], (32, 64)))


def test_without_recording_there_is_no_result(model: Model, clip: list[Frame]) -> None:
    session = model.session(record=False)
    session.step(clip[0])
    with pytest.raises(VisoloError, match="record=False"):
        session.finish()


def test_every_stage_is_timed(model: Model, clip: list[Frame]) -> None:
    session = model.session()
    for frame in clip[:2]:
        instances = session.step(frame)
    assert len(instances) > 0
    assert set(session.stage_ms) == set(STAGES)
    assert all(spent > 0 for spent in session.stage_ms.values())


def test_state_does_not_grow(model: Model) -> None:
    """Counted, not weighed: no container of a session is longer after 100 frames than it may be."""
    limits = InferenceConfig(lost_limit=5, memory_slots=4)
    session = replace(model, inference=limits).session(record=False)
    for frame in sample_frames(100, 48, 80):
        session.step(frame)
    assert session.tracks_begun > 20  # enough were lost to fill the list
    assert session.stream._associator.lost_count == 5
    assert len(session.stream._associator._lost) <= 5
    assert len(session.stream._slots) == 4
    assert session.stream._recorder is None


def test_more_cells_than_go_into_the_engine_at_once(model: Model, clip: list[Frame]) -> None:
    """Decoding in parts gives what decoding at once would."""
    buffers = model.engines.buffers()
    image = resize_frame(clip[0], buffers.input_size)
    buffers.submit(range(1), [first_frame(buffers, image)])
    buffers.frame()
    buffers.mask([0])
    cells = np.arange(0, 252, 3)
    assert len(cells) > 2 * DECODE_LIMIT
    together = buffers.decode(0, cells)
    masks = together.masks.reshape(len(cells), -1).astype(np.float64)
    assert np.array_equal(together.intersection, masks @ masks.T)
    assert np.array_equal(together.area, masks.sum(axis=1))
    bounds_in(buffers, cells).check(together.masks)
    kept = together.probability_sum.copy()
    for at in (0, 40, 83):
        alone = buffers.decode(0, cells[at : at + 1])
        bounds_in(buffers, cells[at : at + 1]).check(alone.masks)
        # A pixel that changes sides brings or takes a half.
        assert alone.probability_sum[0] == pytest.approx(kept[at], rel=1e-5, abs=1)
