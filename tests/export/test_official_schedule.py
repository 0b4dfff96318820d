"""The official schedule, the baseline of the speed figures, yields what a session yields."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from benchmarks.official_schedule import FrameInstances, OfficialSchedule, agreement, fill, ours
from mask_comparison import MaskBounds, mask_logits
from visolo_core.nn.checkpoint import load_checkpoint
from visolo_runtime.session.loading import load
from visolo_runtime.video.sample_clip import sample_frames


class Recorded(OfficialSchedule):
    """Keeps the tensors that the newest frame's masks are decoded from."""

    mask_features: Tensor
    """[1, D, H/4, W/4]"""
    kernels: Tensor
    """[1, D, S]"""

    def _select(self, mask_features: Tensor, kernels: Tensor, candidates: Any) -> tuple[Any, ...]:
        self.mask_features, self.kernels = mask_features, kernels
        return super()._select(mask_features, kernels, candidates)

    def bounds(self, cell: list[int]) -> MaskBounds:
        """Bounds of the masks of some cells of the newest frame."""
        kernels = self.kernels[0, :, cell].numpy()
        return MaskBounds.of_logits(mask_logits(self.mask_features[0].numpy(), kernels))


@dataclass(frozen=True)
class Runs:
    """Both schedules on one clip, frame by frame."""

    theirs: list[FrameInstances]
    ours: list[FrameInstances]
    bounds: list[MaskBounds]
    """of their masks"""
    official: OfficialSchedule
    """after the last frame"""


@pytest.fixture(scope="module")
def runs(lite_weights: Path) -> Runs:
    model = load(lite_weights)
    official = Recorded(load_checkpoint(lite_weights).build().eval(), model.inference)
    session = model.session(record=False)
    runs = Runs([], [], [], official)
    for frame in sample_frames(36, 96, 160):
        runs.theirs.append(official.step(frame))
        runs.ours.append(ours(session, frame))
        runs.bounds.append(official.bounds(runs.theirs[-1].cell))
    return runs


def test_tracks_and_scores_are_the_same(runs: Runs) -> None:
    assert sum(len(each.cell) for each in runs.ours) > 30
    comparison = agreement(runs.theirs, runs.ours)
    assert comparison["same_tracks"]
    assert comparison["score_difference"] < 1e-4


def test_masks_are_the_same(runs: Runs) -> None:
    for session_frame, theirs, bounds in zip(runs.ours, runs.theirs, runs.bounds, strict=True):
        bounds.check(theirs.masks)  # otherwise the bounds are wrong
        bounds.check(session_frame.masks)


def test_the_official_memory_grows_with_the_video(runs: Runs) -> None:
    assert runs.official.memory_frames == 9  # 0, 5, ..., 35, and 34
    assert len(runs.official.stored) == 8


def test_another_memory_is_noticed(lite_weights: Path) -> None:
    """Otherwise the comparison would prove nothing."""
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
    comparison = agreement(theirs, mine)
    assert not comparison["same_tracks"] or comparison["score_difference"] > 1e-3


def test_a_long_memory_is_as_full_as_it_would_be(lite_weights: Path) -> None:
    model = load(lite_weights)
    official = OfficialSchedule(load_checkpoint(lite_weights).build().eval(), model.inference)
    session = model.session(record=False)
    frames = list(sample_frames(6, 96, 160))
    fill(official, session, frames, at=300)
    assert official.memory_frames == 62  # 0, 5, ..., 295, and the last two
    assert session._buffers.read("memory_valid")[0, :-1].all()
    assert np.isfinite(official.step(frames[0]).score).all()
