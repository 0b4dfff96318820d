"""Videos from a pipe: opened once, and read from its beginning to its end."""

from __future__ import annotations

import io
import shutil
import tempfile
from pathlib import Path
from typing import Any, BinaryIO

_MOVIE = (
    b"ftyp",
    b"wide",
    b"free",
    b"skip",
    b"pnot",
)  # what an mp4 or a QuickTime film begins with
_LONGEST_HEAD = 1 << 20  # bytes


class Pipe(io.RawIOBase):
    """A file to read after some bytes that were read from it already; closes the file with itself.

    Args:
        rest: the file.
        head: the bytes.
    """

    def __init__(self, rest: io.RawIOBase | BinaryIO, head: bytes = b"") -> None:
        super().__init__()
        self._rest, self._head = rest, head
        self._seekable = not head and rest.seekable()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if not self._head:
            count: int | None = self._rest.readinto(buffer)  # type: ignore[union-attr]
            return count
        part = self._head[: len(buffer)]
        buffer[: len(part)] = part
        self._head = self._head[len(part) :]
        return len(part)

    def seekable(self) -> bool:
        return self._seekable

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._rest.seek(offset, whence)

    def tell(self) -> int:
        return self._rest.tell()

    def close(self) -> None:
        self._rest.close()
        super().close()


def open_pipe(file: int | Path) -> Pipe:
    """Open a pipe so that FFmpeg can read the video in it.

    Most mp4 files have their index at the end, and FFmpeg must go back from there to the pictures:
    such a file is copied to a temporary one, which goes when it is closed. Everything else is read
    as it comes.

    Args:
        file: a descriptor, which stays open; or a FIFO, whose writer is waited for.

    Raises:
        OSError: if the pipe cannot be read, or the disk is full.
    """
    pipe = open(file, "rb", buffering=0, closefd=not isinstance(file, int))  # noqa: SIM115
    if pipe.seekable():
        return Pipe(pipe)
    head, index_is_last = _read_head(pipe)
    whole = Pipe(pipe, head)
    if not index_is_last:
        return whole
    with whole:
        copy = tempfile.TemporaryFile()  # noqa: SIM115, closed with the pipe
        readable = Pipe(copy)
        shutil.copyfileobj(whole, copy)
    readable.seek(0)
    return readable


def _read_head(pipe: io.RawIOBase) -> tuple[bytes, bool]:
    """The bytes up to the index or the pictures of a film, and whether the pictures come first."""
    head, at = b"", 0  # at: where the next box begins
    while len(head) <= _LONGEST_HEAD:
        head += _read(pipe, at + 16 - len(head))
        size, kind = int.from_bytes(head[at : at + 4], "big"), head[at + 4 : at + 8]
        if kind not in _MOVIE:
            return head, kind == b"mdat"
        if size == 1:  # the size has 64 bits, after the kind
            size = int.from_bytes(head[at + 8 : at + 16], "big")
        at += max(size, 8)
        if at > _LONGEST_HEAD:
            break
        head += _read(pipe, at - len(head))
        if len(head) < at:
            break  # it ended
    return head, False


def _read(pipe: io.RawIOBase, count: int) -> bytes:
    """This many bytes; fewer only at the end of the pipe."""
    parts = []
    while count > 0 and (part := pipe.read(count)):
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
