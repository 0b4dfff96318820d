"""Temporary files and folders, which no end of the process leaves behind for good.

Each is locked for as long as its process lives. One that nobody holds was left by a process that
was killed: whoever makes the next one for the same path removes it. An ordinary end of the process
removes what is still there. Where the system has no ``flock``, what a killed process leaves stays.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_RANDOM = "[a-z0-9_]{8}"  # what tempfile puts into a name
_OLD = "-old"  # ends the name of a folder while another takes its place
_owner = os.getpid()
_held: dict[Path, int | None] = {}  # of this process, each with the descriptor of its lock


def new_file(path: Path, folder: Path | None) -> Path:
    """An empty file with a unique name and the suffix of ``path``.

    Args:
        path: what it will become.
        folder: where to make it; None means the system's folder for temporary files.

    Raises:
        OSError: if it cannot be made.
    """
    _remove_abandoned(path, folder)
    while True:
        handle, name = tempfile.mkstemp(prefix=_prefix(path), suffix=path.suffix, dir=folder)
        if _hold(Path(name), handle):
            return Path(name)


def new_folder(path: Path) -> Path:
    """An empty folder with a unique name beside the folder ``path``.

    Raises:
        OSError: if it cannot be made.
    """
    _remove_abandoned(path, path.parent)
    while True:
        name = Path(tempfile.mkdtemp(prefix=_prefix(path), suffix=path.suffix, dir=path.parent))
        if _hold(name, _opened(name)):
            return name


def remove(temporary: Path) -> None:
    """Remove a temporary file or folder, if it still has its name."""
    if temporary.is_dir():
        shutil.rmtree(temporary, ignore_errors=True)
    else:
        temporary.unlink(missing_ok=True)
    release(temporary)


def release(temporary: Path) -> None:
    """Let go of a file or folder that has been renamed."""
    handle = _held.pop(temporary, None)
    if handle is not None:
        os.close(handle)


def swap(folder: Path, temporary: Path) -> None:
    """Put a temporary folder in the place of another, and remove that.

    A process that is killed in between leaves the old folder under another name; the next
    :func:`new_folder` for the same path gives it back.

    Raises:
        OSError: if either cannot be renamed; ``folder`` is as it was then.
    """
    old = temporary.with_name(temporary.name + _OLD)
    handle = _opened(folder)
    try:
        _lock(handle)
        folder.rename(old)
        try:
            temporary.rename(folder)
        except BaseException:  # a signal too
            if not folder.exists():
                old.rename(folder)
            raise
        shutil.rmtree(old)
    finally:
        if handle is not None:
            os.close(handle)


def _prefix(path: Path) -> str:
    return f".{path.stem}-visolo-"


def _opened(folder: Path) -> int | None:
    """A descriptor to lock a folder by; None where folders have none."""
    return None if fcntl is None else os.open(folder, os.O_RDONLY)


def _hold(path: Path, handle: int | None) -> bool:
    """Lock a file or folder until it is released; False if it was removed before it was locked."""
    _held[path] = handle
    _lock(handle)
    if handle is None or _is_named(path, handle):
        return True
    release(path)
    return False


def _lock(handle: int | None) -> None:
    if fcntl is not None and handle is not None:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)


def _is_named(path: Path, handle: int) -> bool:
    """Whether ``path`` is the name of what is open."""
    try:
        there = path.stat(follow_symlinks=False)
    except OSError:
        return False
    here = os.fstat(handle)
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)


def _remove_abandoned(path: Path, folder: Path | None) -> None:
    """Remove what killed processes left of the same path."""
    if fcntl is None:
        return
    name = re.compile(
        f"{re.escape(_prefix(path))}{_RANDOM}{re.escape(path.suffix)}({re.escape(_OLD)})?"
    )
    # What cannot be listed or removed stays: that is no reason to refuse the work itself.
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder or tempfile.gettempdir()):
            if name.fullmatch(entry.name):
                with contextlib.suppress(OSError), _unless_held(Path(entry.path)):
                    _remove_one(path, Path(entry.path))


@contextlib.contextmanager
def _unless_held(path: Path) -> Iterator[None]:
    """Run the block with the lock of a file or folder.

    Raises:
        OSError: if a process holds it, or it is no longer there or is something else.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        mode = os.fstat(handle).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise OSError(f"{path} is neither a file nor a folder")
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _is_named(path, handle):
            raise OSError(f"{path} has another name by now")
        yield
    finally:
        os.close(handle)


def _remove_one(path: Path, abandoned: Path) -> None:
    if not abandoned.is_dir():
        abandoned.unlink()
    elif abandoned.name.endswith(_OLD) and not path.exists():
        abandoned.rename(path)  # killed before the other folder took its place
    else:
        shutil.rmtree(abandoned)


def _remove_all() -> None:
    """At the end of the process: whatever ended it, it did not come to remove these."""
    if os.getpid() != _owner:  # a fork of it ends
        return
    for temporary in list(_held):
        remove(temporary)


atexit.register(_remove_all)
