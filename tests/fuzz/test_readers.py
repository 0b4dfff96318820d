"""Whatever a file holds, a reader ends with its content or with a ``VisoloError``.

``tests/fuzz_campaign.py`` looks for files that break this rule; those that did are kept in
``corpus/``, by reader.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from fuzzed_readers import READERS, fault_of, place

CORPUS = sorted(path for path in (Path(__file__).parent / "corpus").glob("*/*"))
FILES = {"annotations": 25, "safetensors": 20, "pth": 12}
"""Damaged files of a test, for the readers that take longest."""


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """A warning is no fault: pictures that claim to be large give one, for example."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_files_that_once_broke_a_reader(path: Path, tmp_path: Path) -> None:
    reader = READERS[path.parent.name]
    file = place(reader, tmp_path)
    file.write_bytes(path.read_bytes())
    fault = fault_of(reader, file)
    if fault is not None:
        raise fault


@pytest.mark.parametrize("name", READERS)
def test_damaged_files(name: str, tmp_path: Path) -> None:
    reader, random = READERS[name], Random(name)
    file, seeds = place(reader, tmp_path), reader.seeds()
    for _ in range(FILES.get(name, 50)):
        content = random.choice(reader.mutations)(random.choice(seeds), random)
        file.write_bytes(content)
        fault = fault_of(reader, file)
        if fault is not None:
            raise AssertionError(f"a damaged file broke the reader: {content[:2000]!r}") from fault
