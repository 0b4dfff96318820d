"""Reading in a thread of its own what cannot be told to give up."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator
from contextlib import closing

from visolo_runtime.sources.clip import Event
from visolo_runtime.sources.reconnecting import ConnectionLost

_LOOK_S = 0.2
"""how often a thread that has something to hand over looks whether anybody still wants it"""


def read_beside(frames: Generator[Event], timeout_s: float) -> Generator[Event]:
    """The same frames, for at most so many seconds without one.

    FFmpeg gives up a connection when its time is over, but not a device: a camera that stands still
    would stop whoever reads it. The thread that reads stays until its read returns, and then closes
    the device, so that another attempt can open it.

    Args:
        frames: of the device.
        timeout_s: seconds without a frame after which it counts as lost.

    Raises:
        ConnectionLost: by iteration, if there is no frame for so long.
    """
    handed: queue.Queue[Event | BaseException | None] = queue.Queue(1)
    unwanted = threading.Event()

    def hand(each: Event | BaseException | None) -> bool:
        while not unwanted.is_set():
            try:
                handed.put(each, timeout=_LOOK_S)
            except queue.Full:
                continue
            return True
        return False

    def read() -> None:
        error: BaseException | None = None
        try:
            with closing(frames):
                for each in frames:
                    if not hand(each):
                        return
        except BaseException as caught:  # raised again where the frames are taken
            error = caught
        hand(error)

    threading.Thread(target=read, name="visolo-device", daemon=True).start()
    try:
        while True:
            try:
                each = handed.get(timeout=timeout_s)
            except queue.Empty:
                raise ConnectionLost(f"no frame for {timeout_s:g} s") from None
            if each is None:
                return
            if isinstance(each, BaseException):
                raise each
            yield each
    finally:
        unwanted.set()
