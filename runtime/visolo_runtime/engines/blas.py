"""NumPy's matrix products on one thread.

After a product that OpenBLAS splits among threads, they spin for a while, waiting for the next one.
They spin on the cores that the engine needs next: with two cores, a product that takes a tenth of a
millisecond makes the frame graph two or three times slower.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from threading import Lock
from typing import Any

from threadpoolctl import ThreadpoolController

_NEVER_SPLIT = 1 << 15
"""OpenBLAS splits products from eight times as many multiplications on."""
_lock = Lock()
_controller: ThreadpoolController | None = None
_inside = 0
_limit: Any = None


def one_thread_for(multiplications: int) -> AbstractContextManager[None]:
    """:func:`one_thread` for a block whose largest matrix product has so many multiplications. A
    small product is never split, and is over sooner than the setting is changed."""
    return one_thread() if multiplications > _NEVER_SPLIT else nullcontext()


@contextmanager
def one_thread() -> Iterator[None]:
    """A block in which NumPy computes on the calling thread alone; entering takes a tenth of a
    millisecond.

    The number of threads is a setting of the whole process: other threads that use NumPy meanwhile
    are slower, and get the same results. Blocks may overlap in several threads; the last to leave
    restores the setting that the first one found.
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
    """Let any thread change the setting: since 3.8, threadpoolctl obeys only the first that did.

    The last thread to leave is often not the first that entered, and could not restore it.
    """
    for library in controller.lib_controllers:
        clear = getattr(library, "clear_controlling_thread", None)
        if clear is not None:
            clear(force=True)
