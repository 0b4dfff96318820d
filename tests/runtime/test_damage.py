"""Damaged files: all that FFmpeg can decode, the same every time, and the user knows."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from timed_videos import at_rate, write_at
from visolo_runtime.sources.clip import Clip, Notice, Skipped, SourceFrame
from visolo_runtime.sources.opening import open_source

KINDS = [
    ("a.mp4", "libx264"),
    ("a.mov", "libx265"),
    ("a.mkv", "libx264"),
    ("a.ts", "libx264"),
    ("a.ts", "mpeg2video"),
    ("a.flv", "libx264"),
    ("a.webm", "libvpx-vp9"),
    ("a.mkv", "mjpeg"),
    ("a.avi", "mpeg4"),
]


def damaged(content: bytes, how: str, seed: str) -> bytes:
    """A file with damage in its middle, or without its end."""
    numbers, data = random.Random(seed), bytearray(content)
    at = int(len(data) * numbers.uniform(0.4, 0.5))
    if how == "zeros":
        data[at : at + 400] = bytes(400)
    elif how == "flipped bits":
        for _ in range(12):
            data[numbers.randrange(at, len(data) * 2 // 3)] ^= 1 << numbers.randrange(8)
    elif how == "cut":
        del data[at:]
    return bytes(data)


def decoded_by_ffmpeg(path: Path) -> list[Any]:
    """What FFmpeg decodes with one thread, as uint8 [H, W, 3] RGB."""
    pictures = []
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        context.thread_count = 1
        packets: list[Any] = [packet for packet in _demuxed(container) if packet.size]
        for packet in [*packets, None]:
            try:
                frames = context.decode(packet)
            except av.FFmpegError:
                continue
            pictures += [frame.to_ndarray(format="rgb24") for frame in frames]
    return pictures


def _demuxed(container: Any) -> Any:
    try:
        yield from container.demux(video=0)
    except av.FFmpegError:
        return


def same(one: Any, other: Any) -> bool:
    if isinstance(one, SourceFrame) and isinstance(other, SourceFrame):
        return one.time_s == other.time_s and np.array_equal(one.picture, other.picture)
    return bool(one == other)


@pytest.mark.parametrize(
    ("name", "codec", "how"),
    [
        (name, codec, how)
        for name, codec in KINDS
        for how in ("zeros", "flipped bits", "cut")
        if how != "cut" or name not in ("a.mp4", "a.mov")  # which have no index then
    ],
)
def test_every_frame_and_always_the_same(tmp_path: Path, name: str, codec: str, how: str) -> None:
    path = write_at(tmp_path / name, at_rate(25, 40), codec, size=(96, 128))
    whole = path.read_bytes()
    path.write_bytes(damaged(whole, how, name + codec))
    (clip,) = open_source(str(path))
    first, second, third = (list(clip.frames()) for _ in range(3))
    for other in (second, third):
        assert len(first) == len(other)
        assert all(map(same, first, other))
    count = sum(isinstance(event, SourceFrame) for event in first)
    assert count == len(decoded_by_ffmpeg(path)) > 5
    if how == "cut" and name != "a.ts":  # which states no length
        assert any(isinstance(event, (Notice, Skipped)) for event in first)


def frames_and_notices(clip: Clip) -> tuple[int, list[str]]:
    events = list(clip.frames())
    notices = [event.text for event in events if isinstance(event, Notice)]
    return sum(isinstance(event, SourceFrame) for event in events), notices


def test_damage_is_reported_once_for_each_place(tmp_path: Path) -> None:
    """In a transport stream, whose next key frame is sound again."""
    path = write_at(tmp_path / "a.ts", at_rate(25, 40), size=(96, 128))
    path.write_bytes(damaged(path.read_bytes(), "zeros", "c"))
    count, notices = frames_and_notices(open_source(str(path))[0])
    assert count == 40
    assert len(notices) == 1
    assert "damaged data at" in notices[0]


def test_a_sound_file_has_no_notices(tmp_path: Path) -> None:
    for name, codec in KINDS:
        path = write_at(tmp_path / f"{codec}-{name}", at_rate(25, 20), codec)
        assert frames_and_notices(open_source(str(path))[0]) == (20, []), (name, codec)


def test_a_recording_that_begins_between_key_frames(tmp_path: Path) -> None:
    """Times begin with the first frame that can be decoded."""
    path = write_at(tmp_path / "a.ts", at_rate(25, 24), size=(96, 128))
    content = path.read_bytes()
    path.write_bytes(content[len(content) // 5 // 188 * 188 :])
    events = list(open_source(str(path))[0].frames())
    times = [event.time_s for event in events if isinstance(event, SourceFrame)]
    assert times == pytest.approx(at_rate(25, 16))


def without_frame(path: Path, number: int) -> Path:
    """MJPEG, whose frames stand alone, with one of them overwritten."""
    content, at = bytearray(write_at(path, at_rate(25, 10), "mjpeg").read_bytes()), -1
    for _ in range(number + 1):
        at = content.index(b"\xff\xd8\xff", at + 1)
    content[at : at + 700] = bytes(700)
    path.write_bytes(content)
    return path


def test_a_frame_that_is_lost_keeps_its_place(tmp_path: Path) -> None:
    (clip,) = open_source(str(without_frame(tmp_path / "a.mkv", 4)))
    events: list[Any] = list(clip.frames())
    assert [isinstance(event, Skipped) for event in events] == [False] * 4 + [True] + [False] * 5
    assert events[5].time_s == pytest.approx(0.2)


def test_what_is_lost_before_the_first_frame(tmp_path: Path) -> None:
    (clip,) = open_source(str(without_frame(tmp_path / "a.mkv", 0)))
    count, notices = frames_and_notices(clip)
    assert count == 9
    assert "the first packet cannot be decoded" in notices[0]
