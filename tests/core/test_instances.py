"""Instances of a frame: arrays side by side, and one after the other."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from visolo_core.categories import SHAPES
from visolo_core.errors import VisoloError
from visolo_core.instances import Instance, Instances
from visolo_core.masks import decode_rle

COUNT, SIZE = 4, (12, 20)


@pytest.fixture
def instances() -> Instances:
    """Four squares of growing size, of four classes."""
    masks = np.zeros((COUNT, *SIZE), np.uint8)
    for number in range(COUNT):
        masks[number, number : number + 3 + number, 2 : 5 + number] = 1
    return of_masks(masks, SIZE)


def of_masks(masks: Any, size: tuple[int, int]) -> Instances:
    numbers = np.arange(len(masks))
    return Instances(
        frame=7,
        size=size,
        labels=SHAPES,
        tracker_id=numbers + 11,
        class_id=numbers % len(SHAPES),
        confidence=np.linspace(0.9, 0.3, len(masks), dtype=np.float32),
        track_class_id=(numbers + 1) % len(SHAPES),
        track_confidence=np.linspace(0.8, 0.2, len(masks), dtype=np.float32),
        cell=numbers * 10,
        input_masks=masks,
    )


def test_one_after_the_other(instances: Instances) -> None:
    seen = list(instances)
    assert len(seen) == len(instances) == COUNT
    assert [each.track_id for each in seen] == [11, 12, 13, 14]
    assert [each.label for each in seen] == ["disc", "square", "triangle", "star"]
    assert [each.track_label for each in seen] == ["square", "triangle", "star", "cross"]
    assert seen[0].score == pytest.approx(0.9)
    assert seen[3].track_score == pytest.approx(0.2)
    for number, each in enumerate(seen):
        assert each.box == (2, number, 5 + number, 2 * number + 3)
        assert np.array_equal(each.mask, instances.masks[number])
        assert np.array_equal(decode_rle(each.rle), each.mask)
        assert all(isinstance(side, float) for side in each.box)


def test_indexing_by_number(instances: Instances) -> None:
    assert isinstance(instances[1], Instance)
    assert instances[1].track_id == instances[np.int64(1)].track_id == 12
    assert instances[-1].track_id == 14
    for wrong in (4, -5):
        with pytest.raises(IndexError):
            instances[wrong]


@pytest.mark.parametrize(
    ("chosen", "left"),
    [
        (slice(1, 3), [12, 13]),
        (slice(None, None, -1), [14, 13, 12, 11]),
        (np.array([True, False, False, True]), [11, 14]),
        ([True, False, False, True], [11, 14]),
        (np.array([2, 0]), [13, 11]),
        ([3], [14]),
        ([], []),
        (np.zeros(COUNT, bool), []),
    ],
)
@pytest.mark.parametrize("resized_before", [False, True])
def test_indexing_by_slice_and_array(
    instances: Instances, chosen: Any, left: list[int], resized_before: bool
) -> None:
    if resized_before:
        assert instances.masks.any()
    subset = instances[chosen]
    assert isinstance(subset, Instances)
    assert subset.tracker_id.tolist() == left
    assert [each.label for each in subset] == [SHAPES.names[number - 11] for number in left]
    assert subset.masks.shape == (len(left), *SIZE)
    for at, number in enumerate(left):
        assert np.array_equal(subset.masks[at], instances.masks[number - 11])
    assert subset.xyxy.tolist() == [instances.xyxy[number - 11].tolist() for number in left]
    assert (subset.frame, subset.size, subset.labels) == (7, SIZE, SHAPES)


def test_a_boolean_array_of_another_length(instances: Instances) -> None:
    with pytest.raises(IndexError):
        instances[np.array([True, False])]


def test_filtering_as_users_write_it(instances: Instances) -> None:
    assert instances[instances.confidence > 0.4].tracker_id.tolist() == [11, 12, 13]
    assert instances[instances.class_id == 3].tracker_id.tolist() == [14]


@given(
    arrays(np.bool_, st.tuples(st.integers(0, 3), st.just(6), st.just(9))),
    st.tuples(st.integers(1, 20), st.integers(1, 20)),
)
def test_boxes_enclose_the_masks(masks: Any, size: tuple[int, int]) -> None:
    """At the size of the result: tight on every side, zeros for a mask without a pixel."""
    instances = of_masks(masks.astype(np.uint8), size)
    assert instances.xyxy.dtype == np.float32
    assert instances.xyxy.shape == (len(masks), 4)
    for mask, box in zip(instances.masks, instances.xyxy.astype(int), strict=True):
        left, top, right, bottom = box
        if not mask.any():
            assert box.tolist() == [0, 0, 0, 0]
            continue
        inside = mask[top:bottom, left:right]
        assert inside.sum() == mask.sum()
        assert inside[0].any()
        assert inside[-1].any()
        assert inside[:, 0].any()
        assert inside[:, -1].any()


def test_none_at_all() -> None:
    empty = of_masks(np.zeros((0, *SIZE), np.uint8), SIZE)
    assert list(empty) == []
    assert not empty
    assert empty.xyxy.shape == (0, 4)
    assert empty.rles == ()


def test_as_detections_of_supervision(instances: Instances) -> None:
    supervision = pytest.importorskip("supervision", reason="install visolo[dev]")
    detections = instances.to_supervision()
    assert isinstance(detections, supervision.Detections)
    for ours, theirs in (
        (instances.xyxy, detections.xyxy),
        (instances.masks, detections.mask),
        (instances.confidence, detections.confidence),
        (instances.class_id, detections.class_id),
        (instances.tracker_id, detections.tracker_id),
    ):
        assert np.array_equal(ours, theirs)
    assert detections.data["class_name"].tolist() == ["disc", "square", "triangle", "star"]
    kept = detections[detections.confidence > 0.4]
    assert kept.tracker_id.tolist() == [11, 12, 13]
    none = instances[:0].to_supervision()
    assert len(none) == 0


def test_supervision_is_imported_when_it_is_asked_for(
    instances: Instances, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(VisoloError, match="pip install supervision"):
        instances.to_supervision()
