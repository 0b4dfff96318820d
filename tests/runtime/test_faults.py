"""A few of the runs with random faults; ``tests/faults.py`` has many."""

from __future__ import annotations

from pathlib import Path

import pytest

import faults
from skips import NEEDS_MOUNT


@pytest.mark.parametrize(
    ("fault", "seed"),
    [
        ("SIGTERM", 3),
        ("closed pipe", 1),
        ("source killed", 2),
        *(pytest.param(fault, 11, marks=pytest.mark.slow) for fault in faults.FAULTS),
    ],
)
def test_a_fault_leaves_what_it_should(lite_bundle: Path, fault: str, seed: int) -> None:
    if fault == "full disk" and not faults.can_mount():
        pytest.skip(NEEDS_MOUNT)
    outcome = faults.run_one(fault, seed, str(lite_bundle))
    assert outcome.problems == ()
