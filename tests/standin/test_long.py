"""What long use leaves behind: nothing. ``VISOLO_STANDIN_LONG=1`` makes it long: 10,000 frames and
1,000 sessions."""

from __future__ import annotations

import gc
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from helpers import resident
from standin.stand_in import CHANCE, LAZY, StandIn
from visolo_runtime.engines.engine import Engines
from visolo_runtime.session.loading import Model
from visolo_runtime.session.session import Session
from visolo_runtime.video.sample_clip import sample_frames

pytestmark = pytest.mark.standin
LONG = bool(os.environ.get("VISOLO_STANDIN_LONG"))
BLOCK = 1000 if LONG else 60
BLOCKS = 10
SESSIONS = 1000 if LONG else 40
PERIOD = 20
CALLS = (
    "cuGraphLaunch", "cuMemcpyHtoDAsync_v2", "cuMemcpyDtoHAsync_v2", "cuMemcpyDtoDAsync_v2",
    "cuEventSynchronize", "cuStreamSynchronize", "cuCtxPushCurrent_v2", "cuLaunchHostFunc",
)  # fmt: skip
NEVER = (
    "cuMemAlloc_v2", "cuMemHostAlloc", "cuEventCreate", "cuStreamCreate",
    "cuGraphInstantiateWithFlags",
)  # fmt: skip


def test_frames_without_growth(
    driver: StandIn, open_engines: Callable[..., Engines], model: Model
) -> None:
    """Neither calls, objects of the driver and of Python, nor memory."""
    options = model.stream_options(record=False)
    # The list of lost tracks grows to its limit before it stays as it is.
    options = replace(options, inference=replace(options.inference, lost_limit=16))
    session = Session(open_engines().buffers(), options)
    # Now and then there is nothing to see.
    frames = [*sample_frames(PERIOD - 3, 64, 96), *(3 * [np.zeros((64, 96, 3), np.uint8)])]

    def block() -> Counter[str]:
        driver.reset(LAZY)
        for number in range(BLOCK):
            session.step(frames[number % PERIOD])
        return Counter({name: driver.count(name) for name in (*CALLS, *NEVER)})

    def levels() -> tuple[object, int, int]:
        gc.collect()
        return driver.live(), len(gc.get_objects()), resident()

    block()
    block()
    first_live, first_objects, first_bytes = levels()
    first = block()
    for _ in range(BLOCKS - 4):
        block()
    last = block()
    live, objects, nbytes = levels()
    print(f"{objects - first_objects} objects, {nbytes - first_bytes} bytes, {first}, {last}")
    assert live == first_live
    assert [last[name] for name in NEVER] == [0] * len(NEVER)
    for name in CALLS:  # a frame differs from the same one earlier in what the memory holds
        assert last[name] <= first[name] * 1.1 + BLOCK / 10, name
    assert last["cuGraphLaunch"] >= BLOCK
    assert objects - first_objects < 50
    assert nbytes - first_bytes < 4e6


def test_sessions_opened_and_dropped(
    driver: StandIn, open_engines: Callable[..., Engines], model: Model
) -> None:
    """Each at some point of its work; the engines stay."""
    driver.reset(CHANCE, 3)
    engines, options = open_engines(), model.stream_options(record=False)
    frames = list(sample_frames(3, 64, 96))
    gc.collect()
    before = driver.live()
    for number in range(SESSIONS):
        session = Session(engines.buffers(), options)
        for frame in frames[: number % 4]:
            session.step(frame)
        del session
    gc.collect()
    assert driver.live() == before
    assert driver.misuses() == []
