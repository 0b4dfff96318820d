"""Ctrl-C that ends a long work in order, with what was reached so far."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class StopFlag:
    """A flag that the first Ctrl-C sets; the second one is not caught."""

    def __init__(self) -> None:
        self.is_set = False

    @contextmanager
    def on_interrupt(self) -> Iterator[None]:
        """Let SIGINT and SIGTERM set the flag instead of ending the program."""
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread can handle signals
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def stop(number: int, frame: object) -> None:
            self.is_set = True
            for each, handler in before.items():
                signal.signal(each, handler)

        for number in before:
            signal.signal(number, stop)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
