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
    several threads; the last to leave brings back what the first has found.
    """
    global _controller, _inside, _limit
    with _lock:
        if _controller is None:
            _controller = ThreadpoolController()
        if _inside == 0:
            _limit = _controller.limit(limits=1, user_api="blas")
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _limit.restore_original_limits()
