"""Files: written so that a reader never sees half of one, and never outside their folder.

A file takes its name only when it is complete. What has no beginning and end of its own, such as a
device or a FIFO, is never replaced: it is written through, as the shell's ``>`` does. A symbolic
link stays one, and the file that it leads to is written.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from visolo_core import json_text
from visolo_core.errors import VisoloError

_DESCRIPTORS = re.compile(r"/proc/[0-9]+(/task/[0-9]+)?/fd|/dev/fd")
_MOST_LINKS = 40  # what Linux follows
_LONGEST_NAME, _LONGEST_PATH = 255, 4095  # bytes, likewise


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that is renamed to it if the block succeeds.

    On an exception the temporary file is removed and ``path`` does not change. A device or a FIFO
    receives the content instead.

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
        VisoloError: if the parent folder does not exist or cannot be written, there is a file of
            that name, or the disk is full.
    """
    final = _followed(folder)
    if final.exists() and not final.is_dir():
        raise VisoloError(f"cannot write '{folder}': it is not a folder")
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{final.name}-", dir=final.parent))
    except OSError as error:
        raise VisoloError(f"cannot write '{folder}': {reason(error)}") from error
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())  # mkdtemp gives access to the owner only
        _swap(final, temporary)
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
    """A new empty file with a unique name and the suffix of ``path``.

    It is in the folder of the file that ``path`` leads to; for a device or a FIFO, in the system's
    folder for temporary files.

    Raises:
        VisoloError: if the folder does not exist or cannot be written, or ``path`` is a folder.
    """
    if path.is_dir():
        raise VisoloError(f"cannot write '{path}': it is a folder")
    folder = None if is_written_through(path) else _followed(path).parent
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=folder)
    except OSError as error:
        raise VisoloError(f"cannot write '{path}': {reason(error)}") from error
    os.close(handle)
    return Path(name)


def give_name(temporary: Path, path: Path) -> None:
    """Rename a finished temporary file to ``path``, with the permissions of a new file.

    A device or a FIFO receives its content instead, and the temporary file is removed.

    Raises:
        VisoloError: if the file cannot be renamed, or the device or FIFO cannot be written.
    """
    try:
        if is_written_through(path):
            with temporary.open("rb") as content, open_through(path) as device:
                shutil.copyfileobj(content, device)
            temporary.unlink()
        else:
            temporary.chmod(0o666 & ~_umask())  # mkstemp gives access to the owner only
            temporary.replace(_followed(path))
    except OSError as error:
        raise VisoloError(f"cannot write '{path}': {reason(error)}") from error


def is_written_through(path: Path) -> bool:
    """Whether ``path`` must be written as it is, and not replaced by a new file.

    That is so for devices, FIFOs and open descriptors such as ``/dev/stdout``, also by way of
    symbolic links.

    Raises:
        VisoloError: if it is a disk or a socket, which no output belongs in.
    """
    try:
        mode = path.stat().st_mode
    except OSError:
        return False  # nothing is there: a new file is written, or the error is found then
    if stat.S_ISBLK(mode) or stat.S_ISSOCK(mode):
        kind = "a disk" if stat.S_ISBLK(mode) else "a socket"
        raise VisoloError(f"cannot write '{path}': it is {kind}, name a file")
    return stat.S_ISCHR(mode) or stat.S_ISFIFO(mode) or _is_descriptor(path)


def open_through(path: Path) -> BinaryIO:
    """Open a device, FIFO or descriptor for writing at its end; waits for the reader of a FIFO.

    Raises:
        OSError: if it cannot be opened.
    """
    # No O_CREAT: a device that has just gone must not leave a file of its name in /dev. O_APPEND:
    # what a shell has redirected to a file with >> stays there.
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND), "wb")


def _is_descriptor(path: Path) -> bool:
    for _ in range(_MOST_LINKS):
        folder = Path(os.path.realpath(path.parent))
        if _DESCRIPTORS.fullmatch(str(folder)):
            return True
        if not path.is_symlink():
            return False
        path = folder / path.readlink()
    return False


def _followed(path: Path) -> Path:
    """The absolute path that symbolic links lead to; it need not exist.

    Raises:
        VisoloError: if they lead round in a circle.
    """
    final = Path(os.path.realpath(path))
    if final.is_symlink():
        raise VisoloError(f"cannot write '{path}': its symbolic links lead round in a circle")
    return final


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
        _check_length(path)
        is_inside = path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a null character
        shown = name if len(name) < 100 else f"{name[:99]}..."
        raise VisoloError(f"{shown!r} in '{folder}' is not a usable path: {error}") from error
    if not is_inside:
        raise VisoloError(f"'{name}' leads out of '{folder}': only paths inside it are allowed")
    return path


def _check_length(path: Path) -> None:
    """Raises: ValueError: if no file system takes it, which ``is_file`` would report as an error of
    its own."""
    if len(os.fsencode(path)) > _LONGEST_PATH or any(
        len(os.fsencode(part)) > _LONGEST_NAME for part in path.parts
    ):
        raise ValueError("file name too long")


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, with or without a byte order mark.

    Raises:
        VisoloError: if it cannot be read or is not such text.
    """
    try:
        return json_text.decode(path.read_bytes())
    except OSError as error:
        raise VisoloError(f"cannot read '{path}': {reason(error)}") from error
    except ValueError as error:
        raise VisoloError(f"cannot read '{path}': {error}") from error


def read_json(path: Path) -> Any:
    """The value in a json file, with or without a byte order mark.

    Raises:
        VisoloError: if it cannot be read, is not json, or has a number that is not finite.
    """
    text = read_text(path)
    try:
        return json_text.parse(text)
    except ValueError as error:
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
