"""Signals that end a program in order: a long work with what it has reached, all else at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_ENDING = [
    number
    for name in ("SIGTERM", "SIGHUP")  # Windows has no SIGHUP
    if (number := getattr(signal, name, None)) is not None
]


@contextmanager
def cleaning_up() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise ``SystemExit``, so that nothing half-written is left behind.

    The exit status is the one that shells report, 128 and the signal's number, also where a library
    makes another error of it. A signal that is ignored, as SIGHUP under ``nohup``, stays so.
    """
    statuses = list[int]()

    def end(number: int, frame: object) -> None:
        statuses.append(128 + number)
        raise SystemExit(128 + number)

    handled = [number for number in _ENDING if signal.getsignal(number) == signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread():
        handled = []  # only the main thread can handle signals
    for number in handled:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in handled:
            signal.signal(number, signal.SIG_DFL)
        if statuses:
            raise SystemExit(statuses[-1])


class StopFlag:
    """A flag that the first Ctrl-C, SIGTERM or SIGHUP sets; the second one is not caught."""

    def __init__(self) -> None:
        self.signal: int | None = None
        """the signal that set it"""

    @property
    def is_set(self) -> bool:
        return self.signal is not None

    @property
    def exit_status(self) -> int:
        """What the program should end with, as shells report it."""
        return 128 + (self.signal or signal.SIGINT)

    @contextmanager
    def on_interrupt(self) -> Iterator[None]:
        """Let these signals set the flag instead of ending the program."""
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread can handle signals
            return
        ending = [number for number in _ENDING if signal.getsignal(number) != signal.SIG_IGN]
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, *ending)}

        def stop(number: int, frame: object) -> None:
            self.signal = number
            for each, handler in before.items():
                signal.signal(each, handler)

        for number in before:
            signal.signal(number, stop)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
