"""Decoding of a frame against the official code's results, and where its bugs are fixed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from golden_units import GoldenUnits
from mask_comparison import MaskBounds, mask_logits
from visolo_core.association import TrackState
from visolo_core.config import InferenceConfig
from visolo_core.decoding import (
    Candidates,
    choose_cells,
    drop_covered,
    grid_weight,
    match_values,
    matrix_nms,
    select_instances,
)
from visolo_core.nn.graphs import DecodeGraph

Array = Any
COMMITTED = ("dense", "common_gw", "cell0_and_other")
FURTHER = ("common", "common_hi", "some_empty-1.3", "some_empty-1.5", "some_empty-1.7")
LOGIT_NOISE = 2e-5
"""From the same inputs: sums of 256 products of up to 8 are rounded by 5e-6 in float32; four times
as much is allowed."""


@pytest.fixture(scope="module")
def units(golden_units: GoldenUnits) -> dict[str, Array]:
    return golden_units.arrays


def nms_inputs(units: dict[str, Array]) -> tuple[Array, Array, Array, Array]:
    count, height, width = units["nms_shape"]
    bits = np.unpackbits(units["nms_masks"])[: count * height * width]
    masks = bits.reshape(count, -1).astype(np.float32)
    return units["nms_scores"], units["nms_labels"], masks.sum(axis=1), masks @ masks.T


@pytest.mark.parametrize("kernel", ["gaussian", "linear"])
def test_matrix_nms_equals_the_official_one(units: dict[str, Array], kernel: Any) -> None:
    scores = matrix_nms(*nms_inputs(units), sigma=2.0, kernel=kernel)
    assert scores == pytest.approx(units[f"nms_{kernel}"], abs=1e-6)


def decode(units: GoldenUnits, case: str) -> tuple[Array, Array, Array, Array]:
    """Cells, labels, scores and masks of the instances that our decoding finds in a case."""
    config = InferenceConfig()
    scores, weight = units.scores(case), units.grid_weight(case)
    none = np.zeros((1, scores.shape[1]), np.float32)
    candidates = choose_cells(scores, weight, config.score_threshold, none, none)
    graph = DecodeGraph()
    kernels = np.ascontiguousarray(units.kernels(case, candidates.cell).T)
    decoded = graph(torch.from_numpy(units.mask_features(case))[None], torch.from_numpy(kernels))
    masks, area, probability_sum, intersection = (part.numpy() for part in decoded)
    chosen, score = select_instances(candidates, area, probability_sum, intersection, config)
    return (
        candidates.cell[chosen],
        candidates.label[chosen],
        score,
        masks[chosen].astype(bool),
    )


def compare_with_the_official_one(units: GoldenUnits, case: str) -> None:
    cells, labels, scores, masks = decode(units, case)
    facts = units.facts[f"seg {case}"]
    assert cells.tolist() == facts["valid"]
    assert labels.tolist() == facts["labels"]
    assert scores == pytest.approx(units.arrays[f"seg_{case}_scores"], abs=1e-5)
    logits = mask_logits(units.mask_features(case), units.kernels(case, cells))
    bounds = MaskBounds.of_logits(logits, LOGIT_NOISE)
    bounds.check(masks)
    bounds.check(units.masks(case))


@pytest.mark.parametrize("case", COMMITTED)
def test_decoding_equals_the_official_one(golden_units: GoldenUnits, case: str) -> None:
    compare_with_the_official_one(golden_units, case)


@pytest.mark.parametrize("case", FURTHER)
def test_decoding_of_further_cases(golden_folder: Path, case: str) -> None:
    compare_with_the_official_one(GoldenUnits.whole(golden_folder), case)


def test_a_frame_whose_only_cell_is_cell_0_is_not_empty(golden_units: GoldenUnits) -> None:
    """Official bug 2."""
    assert golden_units.facts["seg only_cell0"] is None
    cells, labels, scores, _ = decode(golden_units, "only_cell0")
    assert cells.tolist() == [0]
    assert labels.tolist() == [5]
    assert scores[0] > 0.1


def check_empty_masks(units: GoldenUnits, case: str) -> None:
    """The official code returns no instances, ours returns those with pixels."""
    assert units.facts[f"seg {case}"] is None
    cells, _, scores, masks = decode(units, case)
    assert len(cells) > 0
    assert np.isfinite(scores).all()
    assert masks.any(axis=(1, 2)).all()


def test_empty_masks_do_not_erase_the_others(golden_units: GoldenUnits) -> None:
    """Official bug 3."""
    check_empty_masks(golden_units, "empty_masks")


def test_few_empty_masks_do_not_erase_the_others(golden_folder: Path) -> None:
    """Official bug 3, where most masks have pixels."""
    check_empty_masks(GoldenUnits.whole(golden_folder), "dense2")


def test_class_of_a_track_equals_the_official_average(units: dict[str, Array]) -> None:
    for frames, score, label in zip(
        units["avg_in"], units["avg_scores"], units["avg_labels"], strict=True
    ):
        seen = frames[frames.sum(axis=1) > 0]
        track = TrackState(1, np.zeros(1, np.float32), seen[0])
        for scores in seen[1:]:
            track.see(np.zeros(1, np.float32), scores)
        track_label, track_score = track.classify()
        assert track_label == label
        assert track_score == pytest.approx(score, abs=1e-6)


def test_nothing_over_the_threshold_is_no_candidate() -> None:
    scores = np.full((3, 4), 0.05, np.float32)
    keys = np.zeros((2, 4), np.float32)
    assert len(choose_cells(scores, np.ones(4, np.float32), 0.1, keys, keys)) == 0


def test_all_masks_empty_gives_no_instance() -> None:
    ones = np.ones((2, 3), np.float32)
    candidates = Candidates(np.arange(2), ones[:, 0], ones, ones, ones)
    nothing = np.zeros(2, np.float32)
    selection = select_instances(
        candidates, nothing, nothing, np.zeros((2, 2), np.float32), InferenceConfig()
    )
    assert len(selection.chosen) == 0


def test_grid_weight_of_a_first_frame_is_one() -> None:
    assert grid_weight(np.ones((4, 6), np.float32), []).tolist() == [1] * 6


def test_match_values_do_not_overflow() -> None:
    query = np.array([[1e4, -1e4]], np.float32)
    match = match_values(query, np.array([[1.0]], np.float32))
    assert match.ravel().tolist() == [1, 0]


@given(st.integers(0, 8), st.integers(0, 2**32 - 1))
def test_matrix_nms_never_raises_a_score_and_spares_the_best(count: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    masks = (generator.random((count, 40)) < 0.4).astype(np.float32)
    masks[:, 0] = 1  # none is empty
    score = np.sort(generator.random(count).astype(np.float32))[::-1]
    label = generator.integers(0, 3, count)
    decayed = matrix_nms(score, label, masks.sum(axis=1), masks @ masks.T)
    assert (decayed <= score + 1e-6).all()
    assert (decayed >= 0).all()
    if count:
        assert decayed[0] == score[0]


@given(st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_survivors_of_overlap_are_not_covered_by_survivors(count: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    masks = (generator.random((count, 30)) < 0.5).astype(np.float32)
    area, intersection = masks.sum(axis=1), masks @ masks.T
    survives = np.flatnonzero(drop_covered(area, intersection, 0.5))
    assert 0 in survives
    for place, worse in enumerate(survives):
        for better in survives[:place]:
            assert intersection[better, worse] <= 0.5 * area[worse]
