"""A session that is saved and restored goes on as if it had never stopped."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visolo_core.errors import VisoloError
from visolo_core.instances import Instances
from visolo_runtime.session.loading import Model, load
from visolo_runtime.session.session import Session
from visolo_runtime.session.state import pack, unpack
from visolo_runtime.video.sample_clip import sample_frames

FRAMES = list(sample_frames(9, 96, 160))


def same(one: Instances, other: Instances) -> bool:
    return (
        one.frame == other.frame
        and np.array_equal(one.tracker_id, other.tracker_id)
        and np.array_equal(one.confidence, other.confidence)
        and np.array_equal(one.track_confidence, other.track_confidence)
        and np.array_equal(one.input_masks, other.input_masks)
    )


@pytest.fixture(scope="module", params=["onnxruntime", "openvino", "torch"])
def model(request: pytest.FixtureRequest, lite_bundle: Path, lite_weights: Path) -> Model:
    return load(lite_weights if request.param == "torch" else lite_bundle, request.param)


def test_restored_at_every_frame(model: Model) -> None:
    """Tracks, scores and masks are the same bit for bit, until the end and in the result."""
    unbroken = model.session()
    states = [unbroken.save()]
    expected = []
    for frame in FRAMES:
        expected.append(unbroken.step(frame))
        states.append(unbroken.save())
    assert sum(map(len, expected)) > 0
    result = unbroken.finish()
    for begin, state in enumerate(states):
        restored = model.session()
        if begin % 3 == 0:
            restored.step(FRAMES[-1])  # whatever it did before is forgotten
        restored.restore(state)
        assert restored.frames == begin
        for frame, instances in zip(FRAMES[begin:], expected[begin:], strict=True):
            assert same(restored.step(frame), instances)
        assert restored.finish() == result
        assert restored.tracks_begun == unbroken.tracks_begun


def test_a_skipped_frame_is_remembered(model: Model) -> None:
    unbroken = model.session(record=False)
    unbroken.step(FRAMES[0])
    unbroken.skip()
    restored = model.session(record=False)
    restored.restore(unbroken.save())
    assert same(restored.step(FRAMES[2]), unbroken.step(FRAMES[2]))


@pytest.fixture(scope="module")
def session(lite_bundle: Path) -> Session:
    return load(lite_bundle, "onnxruntime").session()


@pytest.fixture(scope="module")
def state(lite_bundle: Path) -> bytes:
    session = load(lite_bundle, "onnxruntime").session()
    for frame in FRAMES[:3]:
        session.step(frame)
    return session.save()


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_damaged_state_is_refused_or_read(
    session: Session, state: bytes, data: st.DataObject
) -> None:
    damaged = bytearray(state)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(state) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    length = data.draw(st.sampled_from([len(state), len(state) // 2, 0]))
    try:
        session.restore(bytes(damaged[:length]))
    except VisoloError:
        return


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"labels": ["other"]}, "another model"),
        ({"records": False}, "'record'"),
        ({"slots": [0]}, "memory slots"),
        ({"groups": [[99]]}, "damaged"),
        ({"position": "x"}, "damaged"),
    ],
)
def test_a_state_that_does_not_fit(
    session: Session, state: bytes, change: dict[str, object], says: str
) -> None:
    header, arrays = unpack(state)
    with pytest.raises(VisoloError, match=says):
        session.restore(pack({**header, **change}, arrays))


def test_a_state_of_another_version_or_kind(session: Session, state: bytes) -> None:
    header, arrays = unpack(state)
    with pytest.raises(VisoloError, match="version 9"):
        session.restore(pack({**header, "version": 9}, arrays))
    other = arrays["memory_key"][..., :-1]
    with pytest.raises(VisoloError, match="another model"):
        session.restore(pack(header, {**arrays, "memory_key": other}))
    for data in (b"", b"state", json.dumps(header).encode()):
        with pytest.raises(VisoloError, match="not the saved state"):
            session.restore(data)
