"""Data that lies outside of this repository: used where a variable names its folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from skips import REAL_DATA, WHOLE_GOLDEN


def whole_golden_set() -> Path:
    """The folder that VISOLO_GOLDEN names; the test is skipped without."""
    return _named("VISOLO_GOLDEN", "official", WHOLE_GOLDEN)


def real_data(name: str) -> Path:
    """A file or folder in the folder that VISOLO_DATA names; the test is skipped without."""
    return _named("VISOLO_DATA", name, REAL_DATA) / name


def _named(variable: str, needed: str, reason: str) -> Path:
    folder = os.environ.get(variable, "")
    if not folder:
        pytest.skip(reason)
    path = Path(folder)
    # Named and not there is a mistake, which a skip would hide.
    assert (path / needed).exists(), f"{variable} is '{folder}', which has no '{needed}'"
    return path
