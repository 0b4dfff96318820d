"""Temporary files: no end of a process leaves one behind for good."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from visolo_core.files import remove_temporary, replaced, replaced_folder, temporary_beside
from visolo_core.temporaries import new_file

HOLDER = """
import sys, os, time, signal
from pathlib import Path
from visolo_core import files, temporaries
folder = Path(sys.argv[1])
file = files.temporary_beside(folder / "a.txt")
file.write_text("half")
work = temporaries.new_folder(folder / "f")
(work / "half").touch()
print(file.name, work.name, flush=True)
if sys.argv[2] == "exit":
    sys.exit()
if sys.argv[2] == "error":
    raise RuntimeError
time.sleep(60)
"""


def holder(folder: Path, then: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder), then],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("then", ["exit", "error"])
def test_the_end_of_a_process_removes_what_is_left(tmp_path: Path, then: str) -> None:
    with holder(tmp_path, then) as process:
        process.communicate(timeout=60)
    assert names(tmp_path) == set()


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    with holder(tmp_path, "wait") as process:
        assert process.stdout is not None
        left = set(process.stdout.readline().split())
        assert names(tmp_path) == left
        # While it lives, others leave its files alone.
        write_both(tmp_path)
        assert names(tmp_path) == left | {"a.txt", "f"}
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert names(tmp_path) == left | {"a.txt", "f"}
    with replaced(tmp_path / "b.txt"):
        pass
    assert names(tmp_path) == left | {"a.txt", "b.txt", "f"}  # of another file
    write_both(tmp_path)
    assert names(tmp_path) == {"a.txt", "b.txt", "f"}


def write_both(folder: Path) -> None:
    with replaced(folder / "a.txt") as file:
        file.write_text("whole")
    with replaced_folder(folder / "f") as work:
        (work / "whole").touch()


def test_a_folder_that_was_moved_away_comes_back(tmp_path: Path) -> None:
    """A process was killed after it had moved the old folder away, before the new one came."""
    old = tmp_path / ".f-visolo-abcdefgh-old"
    old.mkdir()
    (old / "precious").touch()
    (tmp_path / ".f-visolo-abcdefgh").mkdir()
    with pytest.raises(RuntimeError), replaced_folder(tmp_path / "f"):
        raise RuntimeError
    assert names(tmp_path) == {"f"}
    assert names(tmp_path / "f") == {"precious"}


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    others = {".a-visolo-mine.txt", ".a-visolo-abcdefgh.json", "a-visolo-abcdefgh.txt", ".a-.txt"}
    for name in others:
        (tmp_path / name).touch()
    (tmp_path / ".a-visolo-12345678.txt").symlink_to("a-visolo-abcdefgh.txt")
    os.mkfifo(tmp_path / ".a-visolo-87654321.txt")
    with replaced(tmp_path / "a.txt"):
        pass
    specials = {".a-visolo-12345678.txt", ".a-visolo-87654321.txt"}
    assert names(tmp_path) == others | specials | {"a.txt"}


def test_temporaries_of_one_process_do_not_remove_each_other(tmp_path: Path) -> None:
    first, second = (temporary_beside(tmp_path / "a.txt") for _ in range(2))
    assert first.exists()
    assert second.exists()
    for each in (first, second):
        remove_temporary(each)
    assert names(tmp_path) == set()


def test_no_descriptor_stays_open(tmp_path: Path) -> None:
    def count() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = count()
    for _ in range(5):
        write_both(tmp_path)
        with pytest.raises(RuntimeError), replaced(tmp_path / "a.txt"):
            raise RuntimeError
        remove_temporary(new_file(tmp_path / "a.txt", tmp_path))
    assert count() == before
