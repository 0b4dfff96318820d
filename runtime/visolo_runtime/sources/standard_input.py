"""Sources that can be read once: standard input and FIFOs."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from visolo_core.errors import VisoloError
from visolo_core.files import reason
from visolo_runtime.sources.clip import Clip, Notice, Skipped, SourceFrame
from visolo_runtime.sources.decoding import decode, frame_rate, open_container
from visolo_runtime.sources.pipes import open_pipe

STANDARD_INPUT = "-"


def pipe_id(source: str) -> tuple[int, int] | None:
    """What is the same for all names of a pipe, such as ``-``; None for other sources."""
    state = state_of(source)
    if state is None or not (source == STANDARD_INPUT or stat.S_ISFIFO(state.st_mode)):
        return None
    return state.st_dev, state.st_ino


def clip_of_standard_input(deinterlace: bool = False) -> Clip:
    if os.isatty(0):
        raise VisoloError("standard input is a terminal: send a video into it, or name a file")
    return clip_opened_once(0, "standard input", Path("/dev/stdin"), deinterlace)


def clip_opened_once(file: int | Path, name: str, path: Path, deinterlace: bool = False) -> Clip:
    """What is opened here and not again: its beginning cannot be read twice.

    Args:
        file: a descriptor, or a FIFO, whose writer is waited for.
        name: of the clip.
        path: that no output may be.
        deinterlace: as for ``decode``.
    """
    try:
        pipe = open_pipe(file)
    except OSError as error:
        raise VisoloError(f"cannot read '{name}': {reason(error)}") from error
    try:
        # A pipe may be quiet for as long as its writer likes.
        containers = [open_container(pipe, shown=name, timeout=None)]
    except VisoloError:
        pipe.close()
        raise
    rate = frame_rate(containers[0])

    def frames() -> Iterator[SourceFrame | Skipped | Notice]:
        if not containers:
            raise VisoloError(f"'{name}' can be read only once: name a file")
        with pipe:
            yield from decode(name, opened=containers.pop(), deinterlace=deinterlace)

    return Clip(1, name, frames, rate, once=True, files=(path,))


def state_of(source: str) -> os.stat_result | None:
    """What is known of a file; None if there is none of this name.

    Raises:
        VisoloError: if its folder may not be read.
    """
    try:
        return os.fstat(0) if source == STANDARD_INPUT else Path(source).stat()
    except PermissionError as error:
        raise VisoloError(f"cannot read '{source}': {reason(error)}") from error
    except (OSError, ValueError):  # an address is too long for the name of a file
        return None
