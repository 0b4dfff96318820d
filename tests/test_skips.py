"""In CI a test cannot silently stop running."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import skips

CONFTEST = """
import skips
def pytest_configure(config):
    skips.install(config)
"""
UNLISTED = """
import pytest
def test_needs_a_library():
    pytest.importorskip("no_such_library", reason="install no-such-library")
def test_runs():
    pass
@pytest.mark.xfail(reason="known")
def test_is_known_to_fail():
    assert False
"""
IN_A_FIXTURE = """
import pytest
@pytest.fixture
def data():
    pytest.skip("there is no data")
def test_of_data(data):
    pass
"""
WHOLE_MODULE = """
import pytest
pytest.importorskip("no_such_library", reason="install no-such-library")
def test_runs():
    pass
"""
LISTED = f"""
import pytest
def test_of_real_data():
    pytest.skip({skips.REAL_DATA!r})
@pytest.mark.skipif(True, reason={skips.NO_CUDA!r})
def test_of_a_gpu():
    pass
"""


def run_pytest(folder: Path, test: str, **variables: str) -> subprocess.CompletedProcess[str]:
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_it.py").write_text(test)
    without = {name: os.environ[name] for name in os.environ if name not in skips.VARIABLES}
    environment = without | {"PYTHONPATH": str(Path(skips.__file__).parent)} | variables
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)]
    return subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("variable", skips.VARIABLES)
@pytest.mark.parametrize(
    ("test", "name", "reason"),
    [
        (UNLISTED, "test_it.py::test_needs_a_library", "install no-such-library"),
        (IN_A_FIXTURE, "test_it.py::test_of_data", "there is no data"),
        (WHOLE_MODULE, "test_it.py", "install no-such-library"),
    ],
)
def test_a_skip_that_is_not_listed_fails(
    tmp_path: Path, variable: str, test: str, name: str, reason: str
) -> None:
    done = run_pytest(tmp_path, test, **{variable: "1"})
    assert done.returncode != 0
    sentence = f"{name} is skipped, and its reason is not listed in tests/skips.py: {reason}"
    assert sentence in done.stdout


def test_a_listed_skip_passes(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, LISTED, VISOLO_STRICT_SKIPS="1")
    assert done.returncode == 0, done.stdout
    assert "2 skipped" in done.stdout


@pytest.mark.parametrize("test", [UNLISTED, IN_A_FIXTURE])
def test_elsewhere_a_skip_is_a_skip(tmp_path: Path, test: str) -> None:
    done = run_pytest(tmp_path, test)
    assert done.returncode == 0, done.stdout
    assert "1 skipped" in done.stdout


def test_only_the_skip_fails(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, UNLISTED, CI="1")
    assert "1 failed, 1 passed, 1 xfailed" in done.stdout
