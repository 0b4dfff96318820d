"""Checking ``.pt2`` files before PyTorch opens them.

PyTorch's loader of exported programs unpickles whatever an archive marks as pickled, and evaluates
the expressions of its sizes. Programs exported by visolo need neither, so an archive with either is
refused. The bytes that were checked are the bytes that are loaded.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

_MEMBERS = re.compile(
    r"[^/]+/(data/weights/(weight_\d+|model_weights_config\.json)"
    r"|data/constants/(tensor_\d+|model_constants_config\.json)"
    r"|data/sample_inputs/model\.pt|models/model\.json"
    r"|archive_format|archive_version|byteorder|\.data/\w+)"
)
_SYMBOL = re.compile(r"Symbol\('\w+'(, \w+=(True|False))*\)")
_EXPRESSION = re.compile(r"(?!.*__)[\w +\-*/(),]*")


# What zipfile and json raise of damaged archives; NotImplementedError of unknown compression.
_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    KeyError,
    EOFError,
    RuntimeError,
    json.JSONDecodeError,
    UnicodeDecodeError,
)


def plain_program(file: Path) -> io.BytesIO:
    """The bytes of an exported program in which nothing is pickled.

    Raises:
        ValueError: if it is not such an archive; the message says why.
        OSError: if it cannot be read.
    """
    content = io.BytesIO(file.read_bytes())
    try:
        with zipfile.ZipFile(content) as archive:
            _check(archive)
    except _DAMAGED as error:
        raise ValueError(f"it is not an exported program ({error})") from error
    content.seek(0)
    return content


def _check(archive: zipfile.ZipFile) -> None:
    names = archive.namelist()
    if len(set(names)) != len(names):
        raise ValueError("two of its members have the same name")
    unknown = [name for name in names if not _MEMBERS.fullmatch(name)]
    if unknown:
        raise ValueError(f"it holds '{unknown[0]}', which no exported program of visolo has")
    for name in names:
        if name.endswith(".json"):
            for key, value in _entries(json.loads(archive.read(name))):
                if key == "use_pickle" and value is not False:
                    raise ValueError(f"'{name}' names tensors that are pickled")
                if key == "expr_str" and not _is_plain(str(value)):
                    raise ValueError(f"'{name}' has a size that is not a sum or product: '{value}'")
        if name.endswith("/sample_inputs/model.pt"):
            try:
                torch.load(io.BytesIO(archive.read(name)), weights_only=True)
            except Exception as error:  # of several kinds
                raise ValueError(f"'{name}' holds more than tensors") from error


def _is_plain(expression: str) -> bool:
    """Whether a size is a sum or product of symbols and numbers."""
    return _EXPRESSION.fullmatch(_SYMBOL.sub("s", expression)) is not None


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, each in value.items():
            yield key, each
            yield from _entries(each)
    elif isinstance(value, list):
        for each in value:
            yield from _entries(each)
