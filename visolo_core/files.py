"""Writing files so that a reader never meets half of one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from visolo_core.errors import VisoloError


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its name when the block ends well.

    On an exception the temporary file is removed and ``path`` is as it was.

    Raises:
        VisoloError: if the folder does not exist or cannot be written.
    """
    temporary = temporary_beside(path)
    try:
        yield temporary
        give_name(temporary, path)
    except OSError as error:
        raise VisoloError(f"cannot write '{path}': {reason(error)}") from error
    finally:
        temporary.unlink(missing_ok=True)


def temporary_beside(path: Path) -> Path:
    """A new empty file in the folder of ``path``, with its suffix, that only its maker knows.

    Raises:
        VisoloError: if the folder does not exist or cannot be written, or ``path`` is a folder.
    """
    if path.is_dir():
        raise VisoloError(f"cannot write '{path}': it is a folder")
    try:
        handle, name = tempfile.mkstemp(
            prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent
        )
    except OSError as error:
        raise VisoloError(f"cannot write '{path}': {reason(error)}") from error
    os.close(handle)
    return Path(name)


def give_name(temporary: Path, path: Path) -> None:
    """Let a finished temporary file take its name, with the rights that a new file has.

    Raises:
        VisoloError: if the system does not allow it.
    """
    try:
        temporary.chmod(0o666 & ~_umask())  # temporary files are made for their maker alone
        temporary.replace(path)
    except OSError as error:
        raise VisoloError(f"cannot write '{path}': {reason(error)}") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def reason(error: OSError) -> str:
    """What the system says is wrong, in a few words."""
    return (error.strerror or str(error)).lower()


def inside(folder: Path, name: str) -> Path:
    """The path of ``name`` in ``folder``, which must not lead out of it, links included.

    Raises:
        VisoloError: if it is absolute or leaves the folder.
    """
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise VisoloError(f"'{name}' leads out of '{folder}': only paths inside it are allowed")
    return path
