"""``tensorrt`` and ``tensorrt_rtx``: found, and made to say why something failed."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Literal, get_args

from visolo_core.distribution import pip_install
from visolo_core.errors import NotHereError

Library = Literal["tensorrt", "tensorrt-rtx"]
LIBRARIES: tuple[Library, ...] = get_args(Library)
LINES_TOLD = 3
"""Lines of a log that an error message repeats, at most."""
_EXTRAS: dict[Library, str] = {"tensorrt": "gpu", "tensorrt-rtx": "rtx"}


def import_library(name: Library) -> Any:
    """The Python module of a library.

    Raises:
        NotHereError: if it is not installed.
    """
    try:
        return import_module(name.replace("-", "_"))
    except (ImportError, OSError) as error:
        raise NotHereError(
            f"{name} is not usable here: {pip_install(_EXTRAS[name])} "
            f"({str(error).splitlines()[0]})"
        ) from error


def new_log(trt: Any, keep: bool = True) -> Any:
    """A logger that remembers errors.

    Args:
        trt: the module of the library.
        keep: remember all other lines too, as ``lines``.
    """

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.lines: list[str] = []
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if keep:
                self.lines.append(message)
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(" ".join(message.split()))

        def reason(self) -> str:
            """The first things that went wrong."""
            return "; ".join(self.errors[:LINES_TOLD]) or "it does not say why"

    return Log()
