"""Whether the tensors of a ``torch.save`` file are as large as it says, before PyTorch opens it.

PyTorch believes the numbers: of an archive it makes a storage of the claimed size over a record of
any size, and reads memory that is not its own; for a file in the old format it allocates whatever
is claimed. The pickles are only read here, opcode by opcode; nothing in them is called.
"""

from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

_ARCHIVE = b"PK\x03\x04"
_OLD_PICKLES = 4  # magic number, version, system, content
_LARGEST_ITEM = 16  # bytes
_BYTES = {
    "Double": 8, "Float": 4, "Half": 2, "BFloat16": 2, "Long": 8, "Int": 4, "Short": 2, "Char": 1,
    "Byte": 1, "Bool": 1, "Untyped": 1, "QInt8": 1, "QUInt8": 1, "QInt32": 4,
}  # fmt: skip
_MARK = object()


def check_claims(path: Path) -> None:
    """Compare every storage with what the file has for it.

    Raises:
        ValueError: if one is larger, or the file is damaged.
        OSError: if it cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(len(_ARCHIVE))
        file.seek(0)
        if start == _ARCHIVE:
            _check_archive(file)
            return
        size = path.stat().st_size
        for _ in range(_OLD_PICKLES):
            if file.tell() == size:
                return  # no checkpoint: PyTorch says what it is
            for _, nbytes in _claims(_Bounded(file, size)):
                _compare(nbytes, size)


class _Bounded:
    """A file that allocates no more than it has, whatever length a pickle states."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size
        self.readline, self.tell = file.readline, file.tell

    def read(self, count: int) -> bytes:
        return self._file.read(min(count, self._size))


def _check_archive(file: BinaryIO) -> None:
    try:
        with zipfile.ZipFile(file) as archive:
            sizes = {info.filename: info.file_size for info in archive.infolist()}
            if len(sizes) != len(archive.infolist()):
                raise ValueError("two of its records have the same name")
            for name in sizes:
                if name.endswith("/data.pkl"):
                    folder = name.removesuffix("data.pkl")
                    with archive.open(name) as pickled:
                        for key, nbytes in _claims(pickled):
                            _compare(nbytes, sizes.get(f"{folder}data/{key}", 0))
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise ValueError(f"it is not an archive that can be read: {error}") from error


def _compare(nbytes: int, size: int) -> None:
    if not 0 <= nbytes <= size:
        raise ValueError(f"a tensor claims {nbytes} bytes, where the file has {size}")


def _claims(pickled: Any) -> Iterator[tuple[str, int]]:
    """The key and the bytes of every storage in a pickle."""
    try:
        for claim in _persistent(pickled):
            _, kind, key, _, count = claim[:5]
            name = str(kind).rpartition(" ")[2].removesuffix("Storage")
            yield str(key), int(count) * _BYTES.get(name, _LARGEST_ITEM)
    except (IndexError, TypeError, KeyError) as error:
        raise ValueError(f"its pickle is damaged: {error}") from error


def _persistent(pickled: Any) -> Iterator[Any]:
    """What a pickle names of what lies outside of it: tuples of text, numbers and names."""
    stack: list[Any] = []
    memo: dict[Any, Any] = {}
    for code, argument, _ in pickletools.genops(pickled):
        match code.name:
            case "MARK":
                stack.append(_MARK)
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "TUPLE":
                stack.append(tuple(_since_mark(stack)))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(code.name[-1])
                stack[-count:] = [tuple(stack[-count:])]
            case "STACK_GLOBAL":
                stack[-2:] = [f"{stack[-2]} {stack[-1]}"]
            case "BINPERSID":
                yield stack[-1]
                stack[-1] = None
            case "PERSID":
                raise ValueError("its pickle is of another kind")
            case _:
                _other(code, argument, stack)


def _other(code: pickletools.OpcodeInfo, argument: Any, stack: list[Any]) -> None:
    """An opcode that takes values from the stack and puts others there."""
    before = code.stack_before
    if pickletools.markobject in before:
        _since_mark(stack)
        before = before[: before.index(pickletools.markobject)]
    if before:
        del stack[-len(before) :]
    known = argument if len(code.stack_after) == 1 else None
    stack.extend([known] * len(code.stack_after))


def _since_mark(stack: list[Any]) -> list[Any]:
    """Take everything down to the last mark, and the mark."""
    values: list[Any] = []
    while (value := stack.pop()) is not _MARK:
        values.append(value)
    return values[::-1]
