"""Instances keep their track from frame to frame."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from visolo_core.association import Associator, TrackState

STRONG = 6.0  # logit of a sure match; others are -6


def keys_of(objects: list[int], count: int = 8) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Queries or keys [count + 1, cells] of a frame in which cell i shows ``objects[i]``."""
    key = np.zeros((count + 1, len(objects)), np.float32)
    for cell, identity in enumerate(objects):
        key[identity, cell] = np.sqrt(2 * STRONG)
    key[count] = 1
    return key


def frame(associator: Associator, objects: list[int]) -> list[int]:
    """Track ids of a frame whose instances, best first, are these objects."""
    query, key = keys_of(objects), keys_of(objects)
    key[-1] = -STRONG  # every pair starts at a logit of -6, equal objects reach +6
    scores = np.full((len(objects), 2), 0.5, np.float32)
    tracks = associator.step(query.T, key.T, scores)
    return [track.track_id for track in tracks]


def test_tracks_follow_objects_in_any_order() -> None:
    associator = Associator()
    assert frame(associator, [0, 1, 2]) == [1, 2, 3]
    assert frame(associator, [2, 0, 1]) == [3, 1, 2]


def test_a_track_that_is_seen_for_weeks_keeps_its_score() -> None:
    """At 40 frames a second, after 29 days; sums in float32 would have stopped growing."""
    scores = np.array([0.2, 0.9], np.float32)
    frames = 100_000_000
    track = TrackState(1, np.zeros(4, np.float32), frames * scores.astype(np.float64), frames)
    for _ in range(1000):
        track.see(track.query, scores.astype(np.float64))
    label, score = track.classify()
    assert label == 1
    assert abs(score - 0.9) < 1e-6


def test_a_lost_track_returns() -> None:
    associator = Associator()
    assert frame(associator, [0, 1]) == [1, 2]
    assert frame(associator, [1]) == [2]
    assert frame(associator, []) == []
    assert frame(associator, [3]) == [3]
    assert frame(associator, [0, 1]) == [1, 2]


def test_of_two_lost_tracks_the_most_recently_lost_returns_first() -> None:
    associator = Associator()
    frame(associator, [0])  # track 1
    frame(associator, [])
    # An object that looks the same while track 1 is out of reach for it.
    associator.match_threshold = 1.1
    assert frame(associator, [0]) == [2]
    associator.match_threshold = 0.1
    frame(associator, [])
    assert frame(associator, [0]) == [2]


def test_two_instances_never_share_a_track() -> None:
    associator = Associator()
    frame(associator, [0])
    assert frame(associator, [0, 0]) == [1, 2]


def test_the_lost_list_is_bounded_and_forgets_the_longest_lost() -> None:
    associator = Associator(lost_limit=2)
    for identity in range(4):
        frame(associator, [identity])
    frame(associator, [])
    assert associator.lost_count == 2
    assert frame(associator, [0, 2, 3]) == [5, 3, 4]


def test_a_track_is_classified_by_the_mean_of_its_raw_scores() -> None:
    associator = Associator()
    key = keys_of([0])
    scores = [np.array([pair], np.float32) for pair in ((0.9, 0.1), (0.1, 0.5), (0.1, 0.8))]
    for each in scores:
        (track,) = associator.step(key.T, key.T, each)
    label, score = track.classify()
    assert label == 1
    assert abs(score - 1.4 / 3) < 1e-6


def scored(associator: Associator, *instances: tuple[float, float]) -> list[int]:
    """Track ids of a frame whose instances have these places, from 0 to 1, and scores. The nearer
    their places are, the better two instances match; opposite ones do not."""
    angle = np.array([place for place, _ in instances]) * np.pi
    where = 3 * np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    classes = np.array([[score, 0] for _, score in instances], np.float32).reshape(-1, 2)
    return [track.track_id for track in associator.step(where, where, classes)]


def test_a_doubtful_track_does_not_take_the_object_of_a_sure_one() -> None:
    for power, continued in ((0.0, 2), (1.0, 1)):
        associator = Associator(track_score_power=power)
        assert scored(associator, (0.0, 0.9), (0.1, 0.2)) == [1, 2]
        assert scored(associator, (0.1, 0.9)) == [continued]  # the doubtful one is nearer


def test_of_lost_tracks_the_sure_one_returns() -> None:
    for power, continued in ((0.0, 2), (1.0, 1)):
        associator = Associator(track_score_power=power)
        scored(associator, (0.0, 0.9), (0.1, 0.2))
        assert scored(associator) == []
        assert scored(associator, (0.1, 0.9)) == [continued]


def test_a_lost_track_returns_only_over_its_threshold() -> None:
    for threshold, continued in ((0.0, 1), (0.99, 1), (0.99999, 2)):
        associator = Associator(return_threshold=threshold)
        assert scored(associator, (0.0, 0.9)) == [1]
        assert scored(associator, (0.0, 0.9)) == [1]  # the threshold of a track that is not lost
        assert scored(associator) == []
        assert scored(associator, (0.0, 0.9)) == [continued]  # sigmoid(9) = .99988


def test_a_sure_track_continues_nothing_below_the_threshold() -> None:
    associator = Associator(track_score_power=10.0)
    assert scored(associator, (0.0, 1.0), (0.9, 0.1)) == [1, 2]
    assert scored(associator, (1.0, 0.9)) == [2]
    assert scored(associator, (1.0, 0.9), (0.0, 0.9)) == [2, 1]


@given(
    st.lists(st.lists(st.integers(0, 7), max_size=6), max_size=12),
    st.integers(0, 5),
)
def test_ids_are_unique_in_a_frame_and_grow_without_gaps(
    video: list[list[int]], lost_limit: int
) -> None:
    associator = Associator(lost_limit=lost_limit)
    known: set[int] = set()
    for objects in video:
        ids = frame(associator, objects)
        assert len(set(ids)) == len(ids)
        new = sorted(set(ids) - known)
        assert new == list(range(len(known) + 1, len(known) + 1 + len(new)))
        known |= set(ids)
        assert associator.lost_count <= lost_limit
    assert associator.tracks_begun == len(known)
