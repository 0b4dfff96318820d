"""Annotated frames."""

from __future__ import annotations

import numpy as np

from visolo_core.categories import SHAPES
from visolo_core.instances import Instances
from visolo_runtime.sinks.drawing import draw_instances, track_colour


def instances(masks: np.ndarray, size: tuple[int, int]) -> Instances:
    count = len(masks)
    numbers = np.arange(count)
    ones = np.ones(count, np.float32)
    return Instances(
        0,
        size,
        SHAPES,
        numbers + 1,
        numbers,
        ones,
        numbers,
        ones,
        numbers,
        masks.astype(np.uint8),
    )


def test_masks_are_tinted_in_their_tracks_colour_and_the_rest_is_left() -> None:
    masks = np.zeros((1, 200, 300), bool)
    masks[0, 60:180, 40:260] = True
    frame = np.full((200, 300, 3), 100, np.uint8)
    drawn = draw_instances(frame, instances(masks, (200, 300)))
    assert (frame == 100).all()
    assert (drawn[masks[0]] != 100).any(axis=-1).all()
    assert (drawn[:60] == 100).all()
    inside = drawn[170, 60].astype(int)
    assert np.abs(inside - (0.55 * 100 + 0.45 * np.array(track_colour(1)))).max() <= 1
    assert tuple(drawn[60, 100]) == track_colour(1)  # the outline


def test_colours_are_stable_and_differ() -> None:
    colours = [track_colour(number) for number in range(1, 40)]
    assert len(set(colours)) == len(colours)
    assert track_colour(5) == colours[4]


def test_many_instances_on_a_tiny_frame() -> None:
    masks = np.ones((6, 16, 16), bool)
    drawn = draw_instances(np.zeros((16, 16, 3), np.uint8), instances(masks, (16, 16)))
    assert drawn.shape == (16, 16, 3)


def test_results_of_another_size_are_drawn_at_the_frames() -> None:
    masks = np.ones((1, 32, 32), bool)
    drawn = draw_instances(np.zeros((64, 48, 3), np.uint8), instances(masks, (8, 8)))
    assert (drawn.reshape(-1, 3).max(axis=1) > 0).mean() > 0.9


def test_no_instances_leave_the_frame_alone() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)
    none = instances(np.zeros((0, 32, 32), bool), (20, 20))
    assert np.array_equal(draw_instances(frame, none), frame)
