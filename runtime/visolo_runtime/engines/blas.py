"""NumPy's matrix products on one thread.

A product that OpenBLAS shares among threads leaves them spinning for a while in wait for the next
one. The cores that they spin on are those that the engine wants next: with two cores, a product
that takes a tenth of a millisecond makes the frame graph two or three times slower.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

from threadpoolctl import ThreadpoolController

_lock = Lock()
_controller: ThreadpoolController | None = None
_inside = 0
_limit: Any = None


@contextmanager
def one_thread() -> Iterator[None]:
    """The block in which NumPy computes on the calling thread alone; entering takes microseconds.

    The number of threads is a setting of the whole process: others that compute with NumPy at the
    same moment are slower for the length of the block, and compute the same. Blocks may overlap in
    several threads; the last to leave restores what the first one saw.
    """
    global _controller, _inside, _limit
    with _lock:
        if _controller is None:
            _controller = ThreadpoolController().select(user_api="blas")
        if _inside == 0:
            _any_thread_may_set(_controller)
            _limit = _controller.limit(limits=1)
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0 and _controller is not None:
                _any_thread_may_set(_controller)
                _limit.restore_original_limits()
                _any_thread_may_set(_controller)


def _any_thread_may_set(controller: ThreadpoolController) -> None:
    """Since 3.8, threadpoolctl listens only to the thread that has set a number first.

    The last to leave is often another thread than the first to come, and would bring nothing back.
    """
    for library in controller.lib_controllers:
        clear = getattr(library, "clear_controlling_thread", None)
        if clear is not None:
            clear(force=True)
