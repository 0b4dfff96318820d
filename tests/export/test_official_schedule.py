"""The baseline of the speed figures finds what a session finds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.official_schedule import Found, OfficialSchedule, agreement, fill, ours
from visolo_core.nn.checkpoint import load_checkpoint
from visolo_runtime.session.loading import load
from visolo_runtime.video.sample_clip import sample_frames


@pytest.fixture(scope="module")
def found(lite_weights: Path) -> tuple[list[Found], list[Found], OfficialSchedule]:
    model = load(lite_weights)
    official = OfficialSchedule(load_checkpoint(lite_weights).build().eval(), model.inference)
    session = model.session(record=False)
    frames = list(sample_frames(36, 96, 160))
    theirs = [official.step(frame) for frame in frames]
    return theirs, [ours(session, frame) for frame in frames], official


def test_tracks_scores_and_masks_are_the_same(
    found: tuple[list[Found], list[Found], OfficialSchedule],
) -> None:
    theirs, mine, _ = found
    assert sum(len(each.cell) for each in mine) > 30
    agreed = agreement(theirs, mine)
    assert agreed["same_tracks"]
    assert agreed["score_difference"] < 1e-4
    assert agreed["mask_iou"] > 0.999


def test_its_memory_grows_for_ever(
    found: tuple[list[Found], list[Found], OfficialSchedule],
) -> None:
    *_, official = found
    assert official.memory_frames == 9  # 0, 5, ..., 35, and 34
    assert len(official.stored) == 8


def test_another_memory_is_noticed(lite_weights: Path) -> None:
    """Or the comparison would prove nothing."""
    model = load(lite_weights)
    official = OfficialSchedule(load_checkpoint(lite_weights).build().eval(), model.inference)
    session = model.session(record=False)
    frames = list(sample_frames(8, 96, 160))
    theirs, mine = [], []
    for number, frame in enumerate(frames):
        if number == 4:
            official.stored = [(key, -features) for key, features in official.stored]
        theirs.append(official.step(frame))
        mine.append(ours(session, frame))
    agreed = agreement(theirs, mine)
    assert not agreed["same_tracks"] or agreed["score_difference"] > 1e-3


def test_a_long_memory_is_as_full_as_it_would_be(lite_weights: Path) -> None:
    model = load(lite_weights)
    official = OfficialSchedule(load_checkpoint(lite_weights).build().eval(), model.inference)
    session = model.session(record=False)
    frames = list(sample_frames(6, 96, 160))
    fill(official, session, frames, at=300)
    assert official.memory_frames == 62  # 0, 5, ..., 295, and the last two
    assert session.stream.valid_slots()[:-1].all()
    assert np.isfinite(official.step(frames[0]).score).all()
