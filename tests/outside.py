"""Data from outside this repository, used if an environment variable names its folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from skips import REAL_DATA, WHOLE_GOLDEN


def whole_golden_set() -> Path:
    """The folder that VISOLO_GOLDEN names; without the variable the test is skipped."""
    return _named("VISOLO_GOLDEN", "official", WHOLE_GOLDEN)


def real_data(name: str) -> Path:
    """A path in the folder that VISOLO_DATA names; without the variable the test is skipped."""
    return _named("VISOLO_DATA", name, REAL_DATA) / name


def _named(variable: str, needed: str, reason: str) -> Path:
    folder = os.environ.get(variable, "")
    if not folder:
        pytest.skip(reason)
    path = Path(folder)
    # A named folder that does not exist is a mistake, which a skip would hide.
    assert (path / needed).exists(), f"{variable} is '{folder}', which has no '{needed}'"
    return path
