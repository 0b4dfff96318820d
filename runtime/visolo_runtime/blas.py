"""NumPy's matrix products on one thread.

A product that OpenBLAS shares among threads leaves them spinning for a while in wait for the next
one. The cores that they spin on are those that the engine wants next: with two cores, a product
that takes a tenth of a millisecond makes the frame graph two or three times slower.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache

from threadpoolctl import ThreadpoolController


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()


def one_thread() -> AbstractContextManager[object]:
    """The block in which NumPy computes on the calling thread alone; entering takes microseconds.

    The number of threads is a setting of the whole process: others that compute with NumPy at the
    same moment are slower for the length of the block, and compute the same.
    """
    limit: AbstractContextManager[object] = _controller().limit(limits=1, user_api="blas")
    return limit
