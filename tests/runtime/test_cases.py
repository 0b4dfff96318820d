"""Inputs that were once read wrongly, each through the whole command or the reader of sources.

All show the same drawn clip, 336x192 at 25 frames a second, so that one says what another must be.
The kinds that they stand for are generated in test_times.py, test_damage.py,
test_pixels_of_sources.py, test_live_sources.py, test_lost_sources.py and test_kept.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from helpers import Outcome
from visolo_runtime.sources.clip import Event, Notice, SourceFrame
from visolo_runtime.sources.opening import open_source

Visolo = Callable[..., Outcome]
CASES = Path(__file__).parents[1] / "cases"
VFR_TIMES = [n / 25 for n in range(9)] + [0.84, 1.32, 1.84]  # the first ones


def events(name: str) -> list[Event]:
    (clip,) = open_source(str(CASES / name))
    return list(clip.frames())


def first_picture(name: str) -> NDArray[np.int16]:
    frame = next(each for each in events(name) if isinstance(each, SourceFrame))
    return frame.picture.astype(np.int16)


def alike(one: NDArray[np.int16], other: NDArray[np.int16]) -> bool:
    """The same picture, but for what codecs lose."""
    return one.shape == other.shape and float(np.abs(one - other).mean()) < 5


def test_a_variable_rate_is_kept(lite_bundle: Path, tmp_path: Path, visolo: Visolo) -> None:
    """Its frames were put 1/25 s apart, up to 1.2 s too early."""
    video, lines = tmp_path / "out.mp4", tmp_path / "lines.jsonl"
    visolo("run", lite_bundle, CASES / "vfr.mp4", "--video", video, "--frames", lines)
    times = [json.loads(line)["time_s"] for line in lines.read_text().splitlines()]
    assert np.allclose(times[: len(VFR_TIMES)], VFR_TIMES, atol=1e-6)
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        shown = sorted(each.time for each in container.decode(stream) if each.time is not None)
    assert np.allclose(np.array(shown) - shown[0], times, atol=1e-3)


def test_a_mirrored_video_is_mirrored() -> None:
    """It was turned by 180 degrees."""
    mirrored, plain = first_picture("hflip.mp4"), first_picture("vfr.mp4")
    assert alike(mirrored[:, ::-1], plain)
    assert not alike(mirrored, plain)
    assert not alike(mirrored[::-1], plain)


def test_a_stream_that_is_cut_short_is_the_same_every_time() -> None:
    """Of six runs some had nine frames and some eight."""
    runs = [events("trunc.ts") for _ in range(6)]
    kinds = [[type(each).__name__ for each in run] for run in runs]
    assert kinds == [kinds[0]] * 6
    assert kinds[0].count("SourceFrame") == 9
    assert any(isinstance(each, Notice) and "damaged" in each.text for each in runs[0])
    pictures = [[e.picture for e in run if isinstance(e, SourceFrame)] for run in runs]
    for others in pictures[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(pictures[0], others, strict=True))


def test_a_cover_picture_is_not_the_video() -> None:
    """It has 100x100 pixels, and comes first in the file."""
    frames = [each for each in events("cover_first.mp4") if isinstance(each, SourceFrame)]
    assert len(frames) == 16
    assert alike(first_picture("cover_first.mp4"), first_picture("vfr.mp4"))


def test_pictures_on_their_side_are_turned() -> None:
    assert alike(first_picture("exif"), first_picture("mac"))


def test_grey_pictures_of_16_bits_are_scaled() -> None:
    """They came out white."""
    grey = first_picture("grey16")
    colours = first_picture("mac").astype(float) @ [0.299, 0.587, 0.114]
    scaled = np.corrcoef(grey[..., 0].ravel(), colours.ravel())[0, 1]
    assert scaled > 0.98
    assert 60 < grey.mean() < 200


def test_files_that_a_mac_leaves_are_no_frames() -> None:
    (clip,) = open_source(str(CASES / "mac"))
    assert clip.frame_names == ("00000.jpg", "00001.jpg")
    assert all(isinstance(each, SourceFrame) for each in clip.frames())
