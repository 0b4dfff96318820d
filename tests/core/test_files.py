"""Files appear whole or not at all, and never outside their folder."""

from __future__ import annotations

import os
import socket
import stat
import threading
from pathlib import Path

import pytest

from helpers import ended
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


def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    target, link = tmp_path / "elsewhere" / "a.txt", tmp_path / "link.txt"
    link.symlink_to("elsewhere/a.txt")
    for content in ("first", "second"):  # the target does not exist at first
        with replaced(link) as temporary:
            temporary.write_text(content)
        assert link.readlink() == Path("elsewhere/a.txt")
        assert target.read_text() == content
    assert sorted(each.name for each in tmp_path.rglob("*")) == ["a.txt", "elsewhere", "link.txt"]


def test_a_symbolic_link_to_a_folder_stays_one(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "link").symlink_to("old")
    with replaced_folder(tmp_path / "link") as work:
        (work / "a").touch()
    assert (tmp_path / "link").is_symlink()
    assert [each.name for each in (tmp_path / "old").iterdir()] == ["a"]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["link", "old"]


def test_links_that_lead_nowhere_are_refused(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "gone").symlink_to("missing/a.txt")
    for name, word in (("loop", "circle"), ("gone", "no such file")):
        with pytest.raises(VisoloError, match=word), replaced(tmp_path / name):
            pass
        assert (tmp_path / name).is_symlink()


@pytest.mark.parametrize("linked", [False, True])
def test_a_fifo_is_written_through(tmp_path: Path, linked: bool) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    (tmp_path / "link").symlink_to("fifo")
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(fifo.read_bytes()))
    reader.start()
    with replaced(tmp_path / "link" if linked else fifo) as temporary:
        temporary.write_text("content")
    ended(reader)
    assert received == [b"content"]
    assert fifo.is_fifo()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["fifo", "link"]
    assert not temporary.exists()


def test_a_device_is_written_through(tmp_path: Path) -> None:
    null = tmp_path / "null"
    try:
        os.mknod(null, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        null.write_text("some file systems make devices that cannot be opened")
    except OSError:  # only root may make one: a pseudo-terminal is a device of everybody
        _ours, theirs = os.openpty()
        null.unlink(missing_ok=True)
        null.symlink_to(os.ttyname(theirs))
    with replaced(null) as temporary:
        temporary.write_text("content")
    assert null.is_char_device()
    with pytest.raises(VisoloError, match="not a folder"), replaced_folder(null):
        pass
    assert null.is_char_device()
    assert [each.name for each in tmp_path.iterdir()] == ["null"]


def test_a_socket_is_refused(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        with pytest.raises(VisoloError, match="a socket"), replaced(tmp_path / "s"):
            pass


def test_a_descriptor_is_written_through(tmp_path: Path) -> None:
    """``--results /dev/stdout >> log`` keeps what is in the log, and the log itself."""
    log = tmp_path / "log"
    log.write_text("before\n")
    inode = log.stat().st_ino
    (tmp_path / "link").symlink_to("/dev/fd")
    with log.open("a") as file:
        for name in (f"/dev/fd/{file.fileno()}", f"/proc/self/fd/{file.fileno()}"):
            with replaced(Path(name)) as temporary:
                temporary.write_text("content\n")
        with replaced(tmp_path / "link" / str(file.fileno())) as temporary:
            temporary.write_text("content\n")
    assert log.read_text() == "before\n" + "content\n" * 3
    assert log.stat().st_ino == inode


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


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not json"),
        (b"{", "not json"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[1, \xff]", r"not UTF-8 text \(byte 4\): save it as UTF-8"),
        ("[1]".encode("utf-16"), "UTF-16 text: save it as UTF-8"),
        ("[1]".encode("utf-16-be"), "UTF-16 or UTF-32 text"),
        ("[1]".encode("utf-32-le"), "UTF-16 or UTF-32 text"),
        (b'{"a": [{"b": NaN}]}', r"a\[0\].b is NaN, and numbers must be finite"),
        (b"[1, Infinity]", r"\[1\] is infinite"),
        (b"[-Infinity]", r"\[0\] is infinite"),
        (b'{"a": 1e999}', "a is infinite"),
    ],
)
def test_files_that_are_not_json(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(VisoloError, match=words):
        read_json(path)


def test_json_files_that_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for encoding in ("utf-8", "utf-8-sig"):
        path.write_text('{"é": 1.5}', encoding=encoding)
        assert read_json(path) == {"é": 1.5}
    with pytest.raises(VisoloError, match="cannot read"):
        read_json(tmp_path)
