"""The state of a session as bytes: what it must know to go on as if it had never stopped.

Numbers are kept bit for bit. Nothing in the bytes is executed when they are read: they are NumPy
arrays and json.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from typing import Any

import numpy as np

from visolo_core.errors import VisoloError
from visolo_runtime.engines.buffers import KEPT, Array, Buffers

_VERSION = 1
_HEADER = "header"
_UNREADABLE = (
    OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, MemoryError, RuntimeError,
    SyntaxError, struct.error, zlib.error, zipfile.BadZipFile,
)  # fmt: skip
"""What reading an archive of arrays raises where bytes are wrong."""


def pack(header: dict[str, Any], arrays: dict[str, Array]) -> bytes:
    """A header, ready for json, and arrays by name."""
    file = io.BytesIO()
    text = json.dumps({"version": _VERSION, **header}).encode()
    named: dict[str, Array] = {**arrays, _HEADER: np.frombuffer(text, np.uint8)}
    np.savez(file, allow_pickle=False, **named)
    return file.getvalue()


def unpack(data: bytes) -> tuple[dict[str, Any], dict[str, Array]]:
    """What was packed.

    Raises:
        VisoloError: if it is anything else, or of another version.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        header = json.loads(arrays.pop(_HEADER).tobytes())
        version = header.pop("version")
    except _UNREADABLE as error:
        raise VisoloError("this is not the saved state of a session") from error
    if version != _VERSION:
        raise VisoloError(
            f"the state is of version {version}, this visolo reads version {_VERSION}: begin anew"
        )
    return header, arrays


def kept_tensors(buffers: Buffers, row: int) -> dict[str, Array]:
    """Copies of what a row keeps from frame to frame."""
    return {name: np.array(buffers.read(name, row)) for name in KEPT}


def check_kept(buffers: Buffers, row: int, arrays: dict[str, Array]) -> None:
    """Check that arrays are what a row keeps.

    Raises:
        VisoloError: if the arrays are of another model.
    """
    for name in KEPT:
        expected, values = buffers.read(name, row), arrays.get(name)
        if values is None or values.shape != expected.shape or values.dtype != expected.dtype:
            raise VisoloError("the state is of another model: begin anew")


def put_back(buffers: Buffers, row: int, arrays: dict[str, Array]) -> None:
    """Overwrite what a row keeps."""
    for name in KEPT:
        buffers.write(name, arrays[name], row)
