"""Files: written so that a reader never sees half of one, and never outside their folder."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from visolo_core.errors import VisoloError


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that is renamed to it if the block succeeds.

    On an exception the temporary file is removed and ``path`` does not change.

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


@contextmanager
def replaced_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder beside ``folder`` that is renamed to it if the block succeeds.

    An existing folder of that name is removed once the new one has taken its place. On an exception
    the temporary folder is removed and ``folder`` does not change.

    Raises:
        VisoloError: if the parent folder does not exist or cannot be written, or the disk is full.
    """
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.absolute().parent))
    except OSError as error:
        raise VisoloError(f"cannot write '{folder}': {reason(error)}") from error
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())  # mkdtemp gives access to the owner only
        _swap(folder, temporary)
    except OSError as error:
        raise VisoloError(f"cannot write '{folder}': {reason(error)}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _swap(folder: Path, temporary: Path) -> None:
    if not folder.exists():
        temporary.rename(folder)
        return
    old = temporary.with_name(f"{temporary.name}-old")
    folder.rename(old)
    try:
        temporary.rename(folder)
    except OSError:
        old.rename(folder)
        raise
    shutil.rmtree(old)


def temporary_beside(path: Path) -> Path:
    """A new empty file with a unique name, in the folder of ``path`` and with its suffix.

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
    """Rename a finished temporary file to ``path``, with the permissions of a new file.

    Raises:
        VisoloError: if the file cannot be renamed.
    """
    try:
        temporary.chmod(0o666 & ~_umask())  # mkstemp gives access to the owner only
        temporary.replace(path)
    except OSError as error:
        raise VisoloError(f"cannot write '{path}': {reason(error)}") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def reason(error: OSError) -> str:
    """The operating system's message, in lower case."""
    return (error.strerror or str(error)).lower()


def inside(folder: Path, name: str) -> Path:
    """The path of ``name`` in ``folder``; neither it nor its links may leave the folder.

    Raises:
        VisoloError: if it is absolute or leaves the folder.
    """
    path = folder / name
    try:
        is_inside = path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a null character
        raise VisoloError(f"{name!r} in '{folder}' is not a usable path: {error}") from error
    if not is_inside:
        raise VisoloError(f"'{name}' leads out of '{folder}': only paths inside it are allowed")
    return path


def read_json(path: Path) -> Any:
    """The value in a json file, with or without a byte order mark.

    Raises:
        VisoloError: if it cannot be read or is not json.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise VisoloError(f"cannot read '{path}': {reason(error)}") from error
    except (ValueError, RecursionError) as error:
        raise VisoloError(f"'{path}' is not json: {error}") from error


def user_cache() -> Path | None:
    """The user's folder for what this package can make again, which may not exist yet; None for a
    user without a home. ``XDG_CACHE_HOME`` names another place for it, as other programs have it.
    """
    chosen = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        return (chosen if chosen.is_absolute() else Path.home() / ".cache") / "visolo"
    except RuntimeError:
        return None
