"""Trainings in processes of their own that do not import PyTorch again, which takes longer.

A server imports it once and forks for each of them, before PyTorch has threads.
"""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from helpers import LIMIT_S

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["visolo_train.learning.own_classes", "torch._dynamo"])


class ForkedTraining:
    """``visolo train`` in a process of its own, begun at once.

    Args:
        arguments: of ``visolo train``.
        errors: a file that its standard error is appended to.
    """

    def __init__(self, arguments: list[str], errors: Path) -> None:
        self._errors = errors
        self._process: ForkServerProcess = _FORKS.Process(
            target=_train, args=(arguments, str(errors))
        )
        self._process.start()

    @property
    def runs(self) -> bool:
        return self._process.is_alive()

    def kill(self) -> None:
        """Send SIGKILL."""
        self._process.kill()

    def end(self) -> int:
        """Wait for the end; returns the exit status, negative if a signal ended it."""
        self._process.join(5 * LIMIT_S)
        assert self._process.exitcode is not None, "the training does not end"
        return self._process.exitcode

    def succeed(self) -> None:
        """Wait for the end, and assert exit status 0."""
        assert self.end() == 0, self._errors.read_text()


def _train(arguments: list[str], errors: str) -> None:
    file = os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    from visolo.cli import main

    main(["train", *arguments])
