"""``tensorrt`` and ``tensorrt_rtx``: found, and made to say why something failed."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any, Literal, get_args

from visolo_core.distribution import JETSON_RELEASE, pip_install
from visolo_core.errors import NotHereError

Library = Literal["tensorrt", "tensorrt-rtx"]
LIBRARIES: tuple[Library, ...] = get_args(Library)
LINES_TOLD = 3
"""Lines of a log that an error message repeats, at most."""
_EXTRAS: dict[Library, str] = {"tensorrt": "gpu", "tensorrt-rtx": "rtx"}
_OLDEST: dict[Library, tuple[int, int]] = {"tensorrt": (10, 3), "tensorrt-rtx": (1, 4)}
"""10.3 is the version of JetPack 6, and its Python module has every call that is made here and in
the builder. 1.4 is the oldest TensorRT-RTX on the package index, and has them too."""


def import_library(name: Library) -> Any:
    """The Python module of a library.

    Raises:
        NotHereError: if it is not installed, or too old.
    """
    try:
        module = import_module(name.replace("-", "_"))
    except (ImportError, OSError) as error:
        raise NotHereError(
            f"{name} is not usable here: {_how_to_install(name)} ({str(error).splitlines()[0]})"
        ) from error
    version, oldest = module.__version__, _OLDEST[name]
    if version_numbers(version) < oldest:
        raise NotHereError(
            f"{name} {version} is too old, {oldest[0]}.{oldest[1]} or later is needed: "
            f"{_how_to_install(name)}"
        )
    return module


def version_numbers(version: str) -> tuple[int, ...]:
    """The first two numbers of a version, to compare.

    >>> version_numbers("10.12.0.36") > version_numbers("10.3")
    True
    """
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


def _how_to_install(name: Library) -> str:
    if name == "tensorrt" and JETSON_RELEASE.exists():
        return (
            "run sudo apt install python3-libnvinfer, and make the environment with the system's "
            "Python and --system-site-packages"
        )
    return f"run {pip_install(_EXTRAS[name])}"


def new_log(trt: Any) -> Any:
    """A logger that remembers errors, and all other lines too, as ``lines``; for building.

    Args:
        trt: the module of the library.
    """

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.lines: list[str] = []
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            self.lines.append(message)
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(" ".join(message.split()))

        def reason(self) -> str:
            """The first things that went wrong."""
            return "; ".join(self.errors[:LINES_TOLD]) or "it does not say why"

    return Log()


def new_error_recorder(trt: Any) -> Any:
    """What remembers errors, and only them; for running.

    A logger in Python would take the interpreter's lock for every line, from the library's own
    threads too. This is called when something fails and at no other time; what is reported to it
    does not reach the logger.

    Args:
        trt: the module of the library.
    """

    class ErrorRecorder(trt.IErrorRecorder):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IErrorRecorder.__init__(self)
            self.errors: list[tuple[Any, str]] = []

        def report_error(self, code: Any, description: str) -> bool:
            self.errors.append((code, " ".join(description.split())))
            return False  # the library need not stop

        def num_errors(self) -> int:
            return len(self.errors)

        def get_error_code(self, index: int) -> Any:
            return self.errors[index][0]

        def get_error_desc(self, index: int) -> str:
            return self.errors[index][1]

        def has_overflowed(self) -> bool:
            return False

        def clear(self) -> None:
            self.errors.clear()

        def take_reason(self) -> str:
            """The first things that went wrong since this was called last."""
            reported, self.errors = self.errors, []
            return "; ".join(text for _, text in reported[:LINES_TOLD]) or "it does not say why"

    return ErrorRecorder()
