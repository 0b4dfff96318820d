"""No output may be a file that is read, or that another output is, by whatever name."""

from __future__ import annotations

import stat
from collections.abc import Iterable
from pathlib import Path

from visolo_core.errors import VisoloError

Output = tuple[str, Path]
"""The option that names an output, and its path."""
_Identity = tuple[int, int] | Path


def check_own_files(
    outputs: Iterable[Output], inputs: Iterable[Path], folders: Iterable[Output] = ()
) -> None:
    """Refuse outputs that would overwrite an input or each other.

    Several outputs may be one character device, such as ``/dev/null``.

    Args:
        outputs: files that will be written.
        inputs: files that are read.
        folders: that files will be written to; several options may share one.

    Raises:
        VisoloError: if two of them are one file, by any name: a symbolic or a hard link too.
    """
    taken: dict[_Identity, Output] = {}
    for option, path in outputs:
        identity = _identity(path)
        if identity in taken and not path.is_char_device():
            other, name = taken[identity]
            raise VisoloError(
                f"{other} '{name}' and {option} '{path}' are the same file: give them two names"
            )
        taken[identity] = option, path
    for option, folder in folders:
        if (identity := _identity(folder)) in taken:
            other, name = taken[identity]
            raise VisoloError(
                f"{other} '{name}' is also the folder of {option}: give them two names"
            )
    if all(isinstance(identity, Path) for identity in taken):
        return  # none exists: a source of many frames need not be looked through
    for path in inputs:
        if (identity := _identity(path)) in taken:
            option, name = taken[identity]
            raise VisoloError(
                f"{option} '{name}' would overwrite '{path}', which is read: give it another name"
            )


def _identity(path: Path) -> _Identity:
    """What is the same for all names of a file."""
    try:
        state = path.stat()
    except OSError:
        return path.resolve()
    if stat.S_ISCHR(state.st_mode):
        return -1, state.st_rdev  # a device may have several nodes
    return state.st_dev, state.st_ino
