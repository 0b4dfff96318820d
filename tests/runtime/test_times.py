"""Every frame has its own time, whatever the container and its clock do."""

from __future__ import annotations

from fractions import Fraction
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image

from timed_videos import at_rate, write_at
from visolo_runtime.sources.clip import Notice, SourceFrame
from visolo_runtime.sources.decoding import decode
from visolo_runtime.sources.frame_times import FrameTimes
from visolo_runtime.sources.opening import open_source

VARIABLE = [*at_rate(25, 8), *at_rate(2, 6, begin_s=0.8)]
"""Seconds; as of a screen recording: eight frames in quick succession, then hardly any."""


def times_and_notices(source: Path) -> tuple[list[float], list[str]]:
    (clip,) = open_source(str(source))
    events = list(clip.frames())
    return (
        [event.time_s for event in events if isinstance(event, SourceFrame)],
        [event.text for event in events if isinstance(event, Notice)],
    )


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp4", "libx264"),
        ("a.mov", "libx265"),
        ("a.mkv", "libx264"),
        ("a.mkv", "libvpx"),
        ("a.ts", "libx264"),
        ("a.flv", "libx264"),
        ("a.webm", "libvpx-vp9"),
    ],
)
def test_a_variable_rate_keeps_its_times(tmp_path: Path, name: str, codec: str) -> None:
    """Among them B-frames, which are stored in another order. A still passage is no gap."""
    times, notices = times_and_notices(write_at(tmp_path / name, VARIABLE, codec))
    assert times == pytest.approx(VARIABLE, abs=0.0011)  # Matroska counts milliseconds
    assert notices == []


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.avi", "libx264"),  # whose frames have the times of others
        ("a.avi", "mpeg4"),
        ("a.h264", "libx264"),  # without any times
        ("a.mkv", "mjpeg"),
        ("a.ts", "mpeg2video"),
    ],
)
def test_a_constant_rate(tmp_path: Path, name: str, codec: str) -> None:
    expected = at_rate(25, 20)
    times, notices = times_and_notices(write_at(tmp_path / name, expected, codec))
    assert times == pytest.approx(expected, abs=1e-4)
    assert notices == []


def test_a_camera_of_ten_frames_a_second(tmp_path: Path) -> None:
    times, _ = times_and_notices(write_at(tmp_path / "a.ts", at_rate(10, 74)))
    assert times[-1] == pytest.approx(7.3)


def test_times_begin_with_the_first_frame(tmp_path: Path) -> None:
    late = at_rate(25, 6, begin_s=100)
    times, notices = times_and_notices(write_at(tmp_path / "a.ts", late))
    assert times == pytest.approx(at_rate(25, 6))
    assert notices == []


def joined(tmp_path: Path, first_s: float, second_s: float) -> Path:
    """Two transport streams of .4 s in one file, which begin at these times."""
    parts = [
        write_at(tmp_path / f"{begin_s}.ts", at_rate(25, 10, begin_s)).read_bytes()
        for begin_s in (first_s, second_s)
    ]
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(parts))
    return path


def test_a_clock_that_jumps_back(tmp_path: Path) -> None:
    times, notices = times_and_notices(joined(tmp_path, 60, 0))
    assert times == pytest.approx(at_rate(25, 20), abs=0.002)
    assert len(notices) == 1
    assert "its clock jumps back by 60" in notices[0]


def test_a_clock_that_jumps_ahead_has_a_gap(tmp_path: Path) -> None:
    times, notices = times_and_notices(joined(tmp_path, 10, 30))
    assert times == pytest.approx([*at_rate(25, 10), *at_rate(25, 10, 20)], abs=0.002)
    assert notices == ["19.60 s are missing after 0.36 s"]


def test_lost_packets_are_a_gap(tmp_path: Path) -> None:
    """Three quarters of a second of a transport stream did not arrive."""
    path = write_at(tmp_path / "a.ts", at_rate(25, 50), size=(96, 128))
    content = path.read_bytes()
    packets = [content[at : at + 188] for at in range(0, len(content), 188)]
    path.write_bytes(b"".join(packets[: len(packets) // 3] + packets[len(packets) * 2 // 3 :]))
    (clip,) = open_source(str(path))
    events = list(clip.frames())
    times = [event.time_s for event in events if isinstance(event, SourceFrame)]
    gaps = [event.gap_s for event in events if isinstance(event, Notice) and event.gap_s]
    longest_s = max(after - before for before, after in pairwise(times))
    assert times[-1] == pytest.approx(1.96)
    assert gaps == [pytest.approx(longest_s - 0.04)]
    assert 0.4 < gaps[0] < 1


def test_missing_numbers_are_a_gap(tmp_path: Path) -> None:
    for number in (0, 5, 20, 25):
        Image.new("RGB", (8, 6)).save(tmp_path / f"{number:05}.png")
    times, _ = times_and_notices(tmp_path)
    assert times == pytest.approx([0, 1 / 30, 4 / 30, 5 / 30])


def _same(value: Fraction | None) -> Fraction | None:
    return value


class TestFrameTimes:
    def test_a_frame_without_a_time_follows_at_the_usual_distance(self) -> None:
        times = FrameTimes(Fraction(25))
        known = [Fraction(number, 10) for number in range(5)]
        assert [times.next(at)[0] for at in known] == [0, 0.1, 0.2, 0.3, 0.4]
        assert times.next(None)[0] == pytest.approx(0.5)
        assert times.next(Fraction(6, 10))[0] == pytest.approx(0.6)

    def test_times_rise_if_two_frames_have_one(self) -> None:
        times = FrameTimes(Fraction(25))
        assert [times.next(Fraction(at))[0] for at in (7, 7, 8)] == [0, 0.001, 1]

    def test_a_distance_is_a_gap_only_if_data_is_lost(self) -> None:
        for lost in (False, True):
            times = FrameTimes(Fraction(25))
            for number in range(10):
                times.next(Fraction(number, 25))
            time_s, notice = times.next(Fraction(2), lost)
            assert time_s == 2
            assert (notice is not None) is lost
        assert notice is not None
        assert notice.gap_s == pytest.approx(1.6)

    @pytest.mark.parametrize("wrong_s", [6000, -50])
    def test_a_single_wrong_time_is_ignored(self, wrong_s: int) -> None:
        times = FrameTimes(Fraction(25))
        clock = [Fraction(number, 25) for number in range(10)]
        clock[6] += wrong_s
        following = iter([*clock[1:], None])
        results = []
        for at in clock:
            after = next(following)
            results.append(times.next(at, lost=True, following=partial(_same, after)))
        assert [time_s for time_s, _ in results] == pytest.approx(at_rate(25, 10))
        assert all(notice is None for _, notice in results)

    def test_what_was_skipped_is_no_gap(self) -> None:
        times = FrameTimes(Fraction(25))
        times.next(Fraction(0))
        assert times.next(Fraction(3, 25), lost=True, skipped=2) == (0.12, None)

    def test_a_clock_that_is_set(self) -> None:
        times = FrameTimes(Fraction(25))
        times.next(Fraction(0))
        time_s, notice = times.next(Fraction(10**9))
        assert time_s == 0.04
        assert notice is not None
        assert (notice.gap_s, "jumps ahead" in notice.text) == (0, True)


def test_a_stream_that_is_opened_by_another(tmp_path: Path) -> None:
    """A pipe's container is decoded without a second look at it."""
    from visolo_runtime.sources.decoding import open_container

    path = write_at(tmp_path / "a.ts", VARIABLE)
    frames = decode("pipe", opened=open_container(f"file:{path}"))
    times = [frame.time_s for frame in frames if isinstance(frame, SourceFrame)]
    assert times == pytest.approx(VARIABLE)
