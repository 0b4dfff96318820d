"""Which frames stay in memory: pure functions of frame numbers.

The paper's rule: frame t reads every fifth frame up to t-3 and the two frames before it. The
official model's memory therefore grows without bound. Here the memory has a fixed number of slots.
Until they are full the rule is the paper's, frame for frame. From then on the kept frames are
thinned so that recent ones are closer together, and the last two are never dropped.
"""

from __future__ import annotations

EMPTY = -1
"""Marks an empty slot."""


def slot_to_write(slots: tuple[int, ...], frame: int, keep_every: int) -> int:
    """The slot in which ``frame`` is stored, once it has been computed.

    Args:
        slots: the frame number in each slot, ``EMPTY`` if there is none.
        frame: number of the new frame, larger than any in ``slots``.
        keep_every: frames whose number is a multiple of this are kept.

    Returns:
        index of an empty slot, or of one whose frame is no longer needed.

    >>> slot_to_write((0, 1, 2, -1), frame=3, keep_every=5)  # frame 1 is no longer needed
    1
    >>> slot_to_write((0, 3, 4, -1), frame=5, keep_every=5)
    1
    >>> slot_to_write((0, 5, 6, -1), frame=7, keep_every=5)  # frame 5 is kept
    3
    """
    previous = frame - 1
    for slot, stored in enumerate(slots):
        if stored != EMPTY and stored < previous and stored % keep_every:
            return slot
    if EMPTY in slots:
        return slots.index(EMPTY)
    kept = sorted(stored for stored in slots if stored != previous)
    return slots.index(_frame_to_drop(kept, frame) if kept else previous)


def store(slots: tuple[int, ...], frame: int, keep_every: int) -> tuple[tuple[int, ...], int]:
    """The slots after ``frame`` is stored, and the slot that it is stored in.

    >>> store((0, 1, 2, -1), frame=3, keep_every=5)
    ((0, 3, 2, -1), 1)
    """
    slot = slot_to_write(slots, frame, keep_every)
    return (*slots[:slot], frame, *slots[slot + 1 :]), slot


def _frame_to_drop(kept: list[int], now: int) -> int:
    """The kept frame whose removal leaves the smallest gap relative to its age.

    The first frame of the video is dropped only if it is the only one kept.
    """
    if len(kept) == 1:
        return kept[0]
    followers = [*kept[2:], now]
    gaps = [
        ((after - before) / (now - stored), stored)
        for before, stored, after in zip(kept, kept[1:], followers, strict=False)
    ]
    return min(gaps)[1]
