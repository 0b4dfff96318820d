"""What a session takes as a frame, and what it says of anything else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from visolo_core.errors import VisoloError
from visolo_runtime.session.loading import Model, load
from visolo_runtime.session.streams import Streams
from visolo_runtime.video.frames import as_picture
from visolo_runtime.video.sample_clip import sample_frames


@pytest.fixture(scope="module")
def model(lite_bundle: Path) -> Model:
    return load(lite_bundle, "onnxruntime")


@pytest.fixture(scope="module")
def clip() -> list[Any]:
    return list(sample_frames(4, 120, 200))


def masks(session: Any, frames: list[Any]) -> list[Any]:
    return [session.step(frame).masks for frame in frames]


def test_arrays_pillow_pictures_and_bgr_are_the_same_frame(model: Model, clip: list[Any]) -> None:
    expected = masks(model.session(), clip)
    assert sum(map(len, expected)) > 4  # or nothing is tested
    bgr = [frame[..., ::-1] for frame in clip]
    pictures = [Image.fromarray(frame) for frame in clip]
    for session, frames in (
        (model.session(), pictures),
        (model.session(), [picture.convert("RGBA") for picture in pictures]),
        (model.session(channel_order="bgr"), bgr),
        (model.session(channel_order="bgr"), pictures),  # Pillow knows its own order
    ):
        for mine, its in zip(masks(session, frames), expected, strict=True):
            assert np.array_equal(mine, its)
    wrong = masks(model.session(), bgr)
    assert any(not np.array_equal(a, b) for a, b in zip(wrong, expected, strict=True))


def test_frames_of_the_networks_own_size_in_bgr(model: Model) -> None:
    """Where nothing is resized, the caller's array is not turned around in place either."""
    (frame,) = sample_frames(1, *model.config.input_size)
    bgr = np.ascontiguousarray(frame[..., ::-1])
    before = bgr.copy()
    assert np.array_equal(
        model.session(channel_order="bgr").step(bgr).masks, model.session().step(frame).masks
    )
    assert np.array_equal(bgr, before)


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        ([[1, 2, 3]], ["not a list", "numpy.asarray"]),
        (None, ["not None"]),
        ("frame.jpg", ["not a str"]),
        (np.zeros((8, 8, 3), np.float32), ["not float32 [8, 8, 3]", "astype"]),
        (np.zeros((8, 8, 3), np.int64), ["not int64 [8, 8, 3]"]),
        (np.zeros((8, 8), np.uint8), ["not uint8 [8, 8]", "grey"]),
        (np.zeros((8, 8, 4), np.uint8), ["not uint8 [8, 8, 4]"]),
        (np.zeros((3, 8, 8), np.uint8), ["not uint8 [3, 8, 8]"]),
        (np.zeros((0, 8, 3), np.uint8), ["not uint8 [0, 8, 3]"]),
        (np.zeros((1, 8, 8, 3), np.uint8), ["not uint8 [1, 8, 8, 3]"]),
    ],
)
def test_anything_else_is_refused_in_one_sentence(
    model: Model, clip: list[Any], frame: Any, words: list[str]
) -> None:
    session = model.session()
    expected = masks(model.session(), clip)
    first = session.step(clip[0]).masks
    with pytest.raises(VisoloError) as caught:
        session.step(frame)
    sentence = str(caught.value)
    assert sentence.startswith("a frame must be a uint8 array [H, W, 3] or a Pillow image")
    assert "\n" not in sentence
    for word in words:
        assert word in sentence
    # The session goes on as if nothing had been.
    for mine, its in zip([first, *masks(session, clip[1:])], expected, strict=True):
        assert np.array_equal(mine, its)


def test_an_unknown_channel_order(model: Model) -> None:
    order: Any = "gbr"
    with pytest.raises(VisoloError, match="channel order 'gbr' is unknown: choose 'rgb' or 'bgr'"):
        model.session(channel_order=order)


def test_pictures_of_any_mode() -> None:
    for mode in ("L", "P", "RGBA", "CMYK", "1", "I;16"):
        assert as_picture(Image.new(mode, (5, 4))).shape == (4, 5, 3)


def test_one_wrong_frame_holds_up_no_other_stream(model: Model, clip: list[Any]) -> None:
    """No stream goes on when one frame of a step is refused, so the step can be made again."""
    with Streams(model, [None, None]) as streams:
        streams.step({0: clip[0], 1: clip[1]})
        with pytest.raises(VisoloError, match="frame 1 is 8x8, but the video began with 200x120"):
            streams.step({0: clip[1], 1: np.zeros((8, 8, 3), np.uint8)})
        assert [session.frames for session in streams.sessions] == [1, 1]
        again = streams.step({0: clip[1], 1: clip[2]})
    session = model.session()
    session.step(clip[0])
    assert np.array_equal(session.step(clip[1]).masks, again[0].masks)
