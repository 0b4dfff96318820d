"""What it means that an output cannot be written."""

from __future__ import annotations

from dataclasses import dataclass

from visolo_core.errors import VisoloError
from visolo_core.files import reason


@dataclass(frozen=True)
class Failure:
    """Something that ended before the run did."""

    name: str
    """of the clip, or the path of the output"""
    reason: str
    """one sentence"""


def failure_to_write(output: str, error: Exception) -> Failure:
    """The failure of an output, named as the user did and not by its temporary file.

    Args:
        output: its path.
        error: that its sink raised.

    Raises:
        Exception: the error itself, if it does not mean that something cannot be written.
    """
    import av

    if isinstance(error, VisoloError):
        return Failure(output, str(error))
    if isinstance(error, OSError):
        return Failure(output, f"cannot write '{output}': {reason(error)}")
    if isinstance(error, av.FFmpegError):
        return Failure(output, f"cannot write '{output}': {str(error.strerror).lower()}")
    raise error
