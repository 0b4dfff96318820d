"""What a step does, counted and not timed: a waste shows without a stopwatch."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from visolo_core.contract import GRAPHS, GraphName
from visolo_core.masks import resize_masks
from visolo_runtime.engines.buffers import DECODE_LIMIT, Array
from visolo_runtime.engines.engine import Engine
from visolo_runtime.engines.host_buffers import HostContext
from visolo_runtime.session.loading import Model, load
from visolo_runtime.session.session import Session
from visolo_runtime.video.sample_clip import sample_frames


class _Counting(Engine[HostContext]):
    """Counts what is asked of an engine."""

    def __init__(self, engine: Engine[HostContext], graph: GraphName, counts: Counter[str]) -> None:
        self._engine, self._graph, self._counts = engine, graph, counts

    def context(self) -> HostContext:
        inner, graph, counts = self._engine.context(), self._graph, self._counts

        class Counted(HostContext):
            def bind_input(self, name: str, buffer: Array) -> None:
                counts[f"bind {graph}"] += 1
                inner.bind_input(name, buffer)

            def bind_output(self, name: str, buffer: Array) -> None:
                counts[f"bind {graph}"] += 1
                inner.bind_output(name, buffer)

            def run(self) -> None:
                counts[f"run {graph}"] += 1
                inner.run()

        return Counted()


@pytest.fixture(scope="module")
def frames() -> list[NDArray[np.uint8]]:
    return list(sample_frames(40, 96, 160))


@pytest.fixture(scope="module")
def model(lite_bundle: Path) -> Model:
    return load(lite_bundle, "onnxruntime")


def counted(model: Model) -> tuple[Model, Counter[str]]:
    engines, counts = model.engines, Counter[str]()
    watched: dict[GraphName, Engine[HostContext]] = {
        graph: _Counting(engines.by_graph[graph], graph, counts) for graph in GRAPHS
    }
    return replace(model, engines=replace(engines, by_graph=watched)), counts


def test_calls_of_engines(model: Model, frames: list[NDArray[np.uint8]]) -> None:
    """One call of the frame and of the memory graph a frame, and no more decoding than needed."""
    watched, counts = counted(model)
    session = watched.session(record=False)
    session.step(frames[0])
    bound = set()
    for frame in frames[1:]:
        counts.clear()
        session.step(frame)
        assert counts["run frame"] == counts["run memory"] == 1
        assert counts["run decode"] <= 1 + model.config.cells // DECODE_LIMIT
        # The frame graph stays bound; memory changes its slot, decode its number of masks.
        assert counts["bind frame"] == 0
        assert counts["bind memory"] == 1
        assert counts["bind decode"] in (0, 5 * counts["run decode"])
        bound.add(counts["bind decode"])
    assert 0 in bound


def test_dense_tensors_are_not_copied(model: Model, frames: list[NDArray[np.uint8]]) -> None:
    """The engines' large outputs lie where the next engine reads them: the same addresses."""
    seen: set[tuple[str, int]] = set()
    watched, _ = counted(model)
    session = watched.session(record=False)
    buffers = session._buffers
    for frame in frames[:12]:
        session.step(frame)
        for name in ("mask_features", "features", "memory_key", "memory_value"):
            seen.add((name, buffers.read(name).ctypes.data))
    assert len(seen) == 4


@contextmanager
def traced() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()


def kept_bytes(session: Session, frames: list[Any]) -> list[int]:
    """Bytes that Python and NumPy hold after each step."""
    kept = []
    with traced():
        for frame in frames:
            session.step(frame)
            kept.append(tracemalloc.get_traced_memory()[0])
    return kept


def test_nothing_grows(model: Model, frames: list[NDArray[np.uint8]]) -> None:
    bounded = replace(model, inference=replace(model.inference, lost_limit=8))
    session = bounded.session(record=False)
    for frame in frames:
        session.step(frame)
    kept = kept_bytes(session, frames * 2)
    assert max(kept[-20:]) <= max(kept[20:40]) + 20_000


def test_a_step_allocates_little(model: Model, frames: list[NDArray[np.uint8]]) -> None:
    """Beside the masks that it gives out, less than a picture and the frame's small tensors."""
    session = model.session(record=False)
    for frame in frames[:10]:
        session.step(frame)
    config = model.config
    small = 4 * config.cells * (2 * config.key_width + config.classes + config.cells)
    for frame in frames[10:]:
        with traced():
            instances = session.step(frame)
            peak = tracemalloc.get_traced_memory()[1]
        masks = instances.input_masks.nbytes
        image = 3 * config.input_size[0] * config.input_size[1]
        assert peak < masks + image + 4 * small + 400_000


def test_masks_are_resized_when_they_are_asked_for(
    model: Model, frames: list[NDArray[np.uint8]], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def resize(masks: Any, size: tuple[int, int]) -> Any:
        calls.append(size)
        return resize_masks(masks, size)

    monkeypatch.setattr("visolo_core.instances.resize_masks", resize)
    session = model.session(record=False)
    instances = [session.step(frame) for frame in frames[:4]]
    assert not calls
    assert instances[-1].masks.shape[1:] == (96, 160)
    assert calls == [(96, 160)]
