"""Files appear whole or not at all, and never outside their folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from visolo_core.errors import VisoloError
from visolo_core.files import inside, read_json, replaced, replaced_folder


def test_a_file_takes_its_name_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with replaced(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [each.name for each in tmp_path.iterdir()] == ["a.txt"]
    plain = tmp_path / "plain"
    plain.touch()
    assert path.stat().st_mode == plain.stat().st_mode


def test_a_folder_takes_its_name_at_the_end(tmp_path: Path) -> None:
    folder = tmp_path / "f"
    for content in ("old", "new"):
        with replaced_folder(folder) as work:
            (work / content).touch()
    assert [each.name for each in folder.iterdir()] == ["new"]
    assert [each.name for each in tmp_path.iterdir()] == ["f"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_what_was(tmp_path: Path, error: type[BaseException]) -> None:
    (tmp_path / "a").write_text("old")

    def fail_at_a_file() -> None:
        with replaced(tmp_path / "a") as temporary:
            temporary.write_text("half")
            raise error

    def fail_at_a_folder() -> None:
        with replaced_folder(tmp_path / "f") as work:
            (work / "half").touch()
            raise error

    for fail in (fail_at_a_file, fail_at_a_folder):
        with pytest.raises(error):
            fail()
    assert (tmp_path / "a").read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["a"]


def test_a_full_disk_is_reported(tmp_path: Path) -> None:
    with pytest.raises(VisoloError, match="no space left"), replaced(tmp_path / "a"):
        raise OSError(28, "No space left on device")
    with pytest.raises(VisoloError, match="no space left"), replaced_folder(tmp_path / "f"):
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../a", "/etc/passwd", "b/../../a", "loop/a", "out/a", "a\0b"])
def test_paths_that_lead_out(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "out").symlink_to(tmp_path)
    with pytest.raises(VisoloError):
        inside(folder, name)


@pytest.mark.parametrize("name", ["a", "b/c.txt", "b/../a", "..a"])
def test_paths_that_stay(tmp_path: Path, name: str) -> None:
    assert inside(tmp_path, name) == tmp_path / name


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"[" * 100_000])
def test_files_that_are_not_json(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(text)
    with pytest.raises(VisoloError, match="not json"):
        read_json(path)
    with pytest.raises(VisoloError, match="cannot read"):
        read_json(tmp_path)
