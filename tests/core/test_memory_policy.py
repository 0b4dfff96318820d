"""Which frames are in memory."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visolo_core.memory_policy import EMPTY, store


def memories(slots: int, frames: int, every: int) -> list[set[int]]:
    """What each of the first frames reads."""
    state: tuple[int, ...] = (EMPTY,) * slots
    seen = []
    for frame in range(frames):
        seen.append(set(state) - {EMPTY})
        state, slot = store(state, frame, every)
        assert state[slot] == frame
    return seen


def paper_rule(frame: int, every: int) -> set[int]:
    """Frames 0, 5, 10, ... up to t-3, and t-2 and t-1."""
    kept = set(range(0, max(0, frame - 2), every))
    return kept | {past for past in (frame - 2, frame - 1) if past >= 0}


def test_nine_slots_hold_a_youtube_vis_clip() -> None:
    for frame, read in enumerate(memories(slots=9, frames=36, every=5)):
        assert read == paper_rule(frame, 5)


@given(slots=st.integers(2, 12), every=st.integers(1, 12), frames=st.integers(1, 300))
def test_memory_is_the_papers_until_full_and_bounded_after(
    slots: int, every: int, frames: int
) -> None:
    thinned = False
    for frame, read in enumerate(memories(slots, frames, every)):
        thinned = thinned or len(paper_rule(frame, every)) > slots
        if not thinned:
            assert read == paper_rule(frame, every)
            continue
        assert len(read) <= slots
        assert {frame - 1, frame - 2} <= read
        assert all(past % every == 0 for past in read - {frame - 1, frame - 2})


def test_one_slot_holds_the_frame_before() -> None:
    assert memories(slots=1, frames=20, every=5)[1:] == [{frame} for frame in range(19)]


@pytest.mark.parametrize("frames", [100, 1000, 20_000])
def test_kept_frames_reach_back_and_stand_denser_towards_the_present(frames: int) -> None:
    read = sorted(memories(slots=9, frames=frames, every=5)[-1])
    assert read[0] == 0  # the beginning is never forgotten
    ages = [frames - past for past in read]
    # No stretch of the past is left out for long, whatever its scale.
    assert all(older / newer < 20 for older, newer in pairwise(ages))
