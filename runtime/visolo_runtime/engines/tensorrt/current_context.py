"""The block in which calls to a GPU are made, and what is left when it fails."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextlib import AbstractContextManager

from visolo_core.errors import VisoloError


class CurrentContext(AbstractContextManager[None]):
    """A context that is current in a block.

    A block leaves no state in it, so that blocks can lie in one another and in several threads.
    An error of pycuda's leaves the block as a VisoloError.

    Args:
        device: its name, for people.
        push: makes the context current.
        pop: makes the one before it current.
        errors: what pycuda raises.
        answers: whether the device still does, asked after an error.
    """

    def __init__(
        self,
        device: str,
        push: Callable[[], None],
        pop: Callable[[], None],
        errors: type[Exception],
        answers: Callable[[], bool],
    ) -> None:
        self._device, self._push, self._pop = device, push, pop
        self._errors, self._answers = errors, answers
        self.closed = False
        """There is nothing left to be freed, and nothing is made current any more."""
        self.failed = False
        """Every call fails from now on, in this process: nothing can be freed."""

    @property
    def usable(self) -> bool:
        """Whether objects of the device can be waited for, and freed."""
        return not (self.closed or self.failed)

    def __enter__(self) -> None:
        if not self.closed:
            self._push()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> None:
        if self.closed:
            return
        known = isinstance(error, (VisoloError, self._errors))
        if known and not self.failed:
            self.failed = not self._answers()
        self._pop()
        if known and self.failed and not isinstance(error, _FailedError):
            raise _FailedError(
                f"{_words(error)}: {self._device} has failed, and this process cannot use it any "
                "more: start again, and see what nvidia-smi reports"
            ) from error
        if isinstance(error, self._errors):
            raise VisoloError(_words(error)) from error


class _FailedError(VisoloError):
    """Says that the device has failed."""


def _words(error: BaseException | None) -> str:
    text = next(iter(str(error).splitlines()), type(error).__name__)
    return text if isinstance(error, VisoloError) else f"CUDA: {text}"


def never_free(thing: object) -> None:
    """Let an object of a device that has failed outlive the process. Libraries would try to free
    what belongs to it, and write to stderr that they cannot, a line each."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))
