"""Videos from a pipe: opened once, and read from its beginning to its end."""

from __future__ import annotations

import io
import shutil
import tempfile
from typing import BinaryIO, cast

_MOVIE = (
    b"ftyp",
    b"wide",
    b"free",
    b"skip",
    b"pnot",
)  # what an mp4 or a QuickTime film begins with
_LONGEST_HEAD = 1 << 20  # bytes


class _Replayed(io.RawIOBase):
    """A pipe whose first bytes were read already."""

    def __init__(self, head: bytes, rest: io.RawIOBase) -> None:
        super().__init__()
        self._head, self._rest = head, rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int | None:
        view = memoryview(buffer)  # type: ignore[arg-type]
        if not self._head:
            return self._rest.readinto(view)
        count = min(len(view), len(self._head))
        view[:count] = self._head[:count]
        self._head = self._head[count:]
        return count


def readable_video(pipe: io.RawIOBase) -> BinaryIO:
    """A pipe as FFmpeg can read it.

    Most mp4 files have their index at the end, and FFmpeg must go back from there to the pictures:
    such a file is copied to a temporary one, which goes when it is closed. Everything else is read
    as it comes.

    Raises:
        OSError: if the pipe cannot be read, or the disk is full.
    """
    if pipe.seekable():
        return cast(BinaryIO, pipe)
    head, index_is_last = _read_head(pipe)
    whole = _Replayed(head, pipe)
    if not index_is_last:
        return cast(BinaryIO, whole)
    copy = tempfile.TemporaryFile()  # noqa: SIM115, it lives as long as the clip
    shutil.copyfileobj(whole, copy)
    copy.seek(0)
    return cast(BinaryIO, copy)


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
