"""``visolo.track``: a source's frames, each with its instances."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import visolo
from clips import data_set, write_folder, write_video
from visolo_runtime.sources.opening import open_source
from visolo_runtime.video.sample_clip import sample_frames


def test_a_video_gives_what_a_session_gives(lite_bundle: Path, tmp_path: Path) -> None:
    film = write_video(tmp_path / "film.mp4", frames=7, height=96, width=160)
    model = visolo.load(lite_bundle, "onnxruntime")
    session = model.session(record=False)
    frames = list(open_source(str(film))[0].pictures())
    expected = [session.step(frame) for frame in frames]
    pairs = list(visolo.track(model, film))
    assert len(pairs) == len(expected) == 7
    assert sum(len(instances) for _, instances in pairs) > 5  # or nothing is tested
    for number, ((frame, mine), its) in enumerate(zip(pairs, expected, strict=True)):
        assert frame.shape == (96, 160, 3)
        assert frame.dtype == np.uint8
        assert mine.frame == number
        assert mine.tracker_id.tolist() == its.tracker_id.tolist()
        assert np.array_equal(mine.masks, its.masks)


@pytest.mark.parametrize("kind", ["path of a bundle", "weights", "open model"])
def test_any_kind_of_model(
    lite_bundle: Path, lite_weights: Path, tmp_path: Path, kind: str
) -> None:
    folder = write_folder(tmp_path / "frames", frames=3)
    model: Any = {
        "path of a bundle": str(lite_bundle),
        "weights": lite_weights,
        "open model": visolo.load(lite_bundle),
    }[kind]
    assert [instances.frame for _, instances in visolo.track(model, str(folder))] == [0, 1, 2]


def test_any_iterable_of_frames(lite_bundle: Path) -> None:
    frames = list(sample_frames(3, 96, 160))
    model = visolo.load(lite_bundle, "onnxruntime")
    expected = [instances.masks for _, instances in visolo.track(model, frames)]
    bgr = (frame[..., ::-1] for frame in frames)
    for (yielded, mine), its, frame in zip(
        visolo.track(model, bgr, channel_order="bgr"), expected, frames, strict=True
    ):
        assert np.array_equal(yielded, frame[..., ::-1])
        assert np.array_equal(mine.masks, its)
    pictures = [Image.fromarray(frame) for frame in frames]
    sizes = [
        instances.masks.shape[1:]
        for _, instances in visolo.track(model, pictures, output_size=(10, 20))
    ]
    assert sizes == [(10, 20)] * 3


def test_a_frame_that_cannot_be_read_keeps_its_number(lite_bundle: Path, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "frames", frames=3)
    (folder / "1.png").write_bytes(b"no picture")
    assert [instances.frame for _, instances in visolo.track(lite_bundle, folder)] == [0, 2]


def test_leaving_early_ends_the_reading(lite_bundle: Path, tmp_path: Path) -> None:
    import threading

    film = write_video(tmp_path / "film.mp4", frames=30, height=96, width=160)
    for _ in visolo.track(lite_bundle, film):
        break
    for thread in threading.enumerate():
        if thread.name == "visolo-read":
            thread.join(5)
            assert not thread.is_alive()


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (12.5, "not a float"),
        ("nowhere.mp4", "there is no video"),
        (9999, "there is no"),
        ("set", "lists 2 videos"),
    ],
)
def test_what_is_refused_is_refused_at_once(
    lite_bundle: Path, tmp_path: Path, source: Any, words: str
) -> None:
    """Not when the first frame is asked for, when the caller has gone on."""
    if source == "set":
        source = data_set(tmp_path)
    with pytest.raises(visolo.VisoloError, match=words):
        visolo.track(lite_bundle, source)
