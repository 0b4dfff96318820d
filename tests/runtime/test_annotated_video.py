"""The annotated video has the times, the pixel aspect and the sound of its source."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from timed_videos import at_rate, write_at
from visolo_core.categories import LabelSet
from visolo_core.instances import Instances
from visolo_runtime.sinks.annotated_video import AnnotatedVideo
from visolo_runtime.sources.clip import Clip, SourceFrame
from visolo_runtime.sources.opening import open_source

VARIABLE = [*at_rate(25, 8), *at_rate(2, 6, begin_s=0.8)]


def nothing_in(frame: SourceFrame, number: int) -> Instances:
    height, width = frame.picture.shape[:2]
    whole, real = np.zeros(0, np.int64), np.zeros(0, np.float32)
    masks = np.zeros((0, height, width), np.uint8)
    labels = LabelSet("shapes", (1,), ("square",))
    return Instances(number, (height, width), labels, whole, whole, real, whole, real, whole, masks)


def annotated(clip: Clip, path: Path, frames: list[SourceFrame] | None = None) -> Path:
    sink = AnnotatedVideo(path)
    sink.begin(clip)
    if frames is None:
        frames = [frame for frame in clip.frames() if isinstance(frame, SourceFrame)]
    for number, frame in enumerate(frames):
        sink.frame(clip, frame, nothing_in(frame, number))
    sink.end(clip, [])
    sink.commit()
    assert [each.name for each in path.parent.iterdir() if each.name.startswith(".")] == []
    return path


def times_of(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        frames: list[Any] = list(container.decode(video=0))
        return [float(frame.pts * frame.time_base) for frame in frames]


def seconds_of(path: Path) -> float:
    with av.open(str(path)) as container:
        return (container.duration or 0) / 1e6


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_variable_rates(tmp_path: Path, name: str) -> None:
    (clip,) = open_source(str(write_at(tmp_path / name, VARIABLE)))
    assert times_of(annotated(clip, tmp_path / "out.mp4")) == pytest.approx(VARIABLE, abs=0.0011)


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("fps", [Fraction(25), Fraction(30000, 1001), Fraction(24000, 1001)])
def test_constant_rates_are_exact(tmp_path: Path, fps: Fraction, live: bool) -> None:
    picture = np.zeros((48, 64, 3), np.uint8)
    frames = [SourceFrame(picture, float(number / fps)) for number in range(48)]
    clip = Clip(1, "a", lambda: iter(frames), fps, live=live)
    out = annotated(clip, tmp_path / "out.mp4", frames)
    with av.open(str(out)) as container:
        stream: Any = container.streams.video[0]
        assert stream.average_rate == fps
        assert stream.duration * stream.time_base == 48 / fps


def test_a_live_source_leaves_no_index_in_memory(tmp_path: Path) -> None:
    """It is written every 250 frames, with the pictures, and the whole can be read and searched."""
    picture = np.zeros((48, 64, 3), np.uint8)
    frames = [SourceFrame(picture, time_s) for time_s in at_rate(25, 600)]
    clip = Clip(1, "a", lambda: iter(frames), Fraction(25), live=True)
    out = annotated(clip, tmp_path / "out.mp4", frames)
    assert out.read_bytes().count(b"moof") == 3
    assert seconds_of(out) == pytest.approx(24, abs=0.01)
    assert times_of(out) == pytest.approx(at_rate(25, 600), abs=0.001)
    with av.open(str(out)) as container:
        container.seek(12_000_000)
        first: Any = next(container.decode(video=0))
        assert float(first.pts * first.time_base) == 10  # the key frame before


def test_a_camera_of_ten_frames_a_second(tmp_path: Path) -> None:
    """7.4 seconds stay 7.4 seconds, whatever rate was stated at first."""
    picture = np.zeros((48, 64, 3), np.uint8)
    frames = [SourceFrame(picture, time_s) for time_s in at_rate(10, 74)]
    out = annotated(Clip(1, "a", lambda: iter(frames), Fraction(10)), tmp_path / "o.mp4", frames)
    assert seconds_of(out) == pytest.approx(7.4, abs=0.01)


def test_a_gap_stays_and_a_very_long_one_is_shortened(tmp_path: Path) -> None:
    """mp4 cannot hold a frame for days."""
    picture = np.zeros((48, 64, 3), np.uint8)
    frames = [SourceFrame(picture, time_s) for time_s in (0, 0.04, 5, 1e6, 1e6 + 1)]
    out = annotated(Clip(1, "a", lambda: iter(frames)), tmp_path / "out.mp4", frames)
    assert times_of(out) == pytest.approx([0, 0.04, 5, 3605, 3606])


def test_pixel_aspect_and_colours_are_stated(tmp_path: Path) -> None:
    source = write_at(tmp_path / "a.mp4", at_rate(25, 3), aspect=Fraction(4, 3))
    (clip,) = open_source(str(source))
    with av.open(str(annotated(clip, tmp_path / "out.mp4"))) as container:
        context = container.streams.video[0].codec_context
        assert context.sample_aspect_ratio == Fraction(4, 3)
        assert (context.colorspace, context.color_range) == (6, 1)
        first = next(container.decode(video=0)).to_ndarray(format="rgb24")
    shown = next(clip.pictures())
    assert np.abs(first.astype(int) - shown).mean() < 4


# -------------------------------------------------------------------------------------- sound


def packets_of(path: Path) -> list[tuple[float, bytes]]:
    with av.open(str(path)) as container:
        packets: list[Any] = list(container.demux(container.streams.audio[0]))
        return [
            (float(packet.pts * packet.time_base), bytes(packet))
            for packet in packets
            if packet.size and packet.pts >= 0
        ]


def loudness(path: Path) -> tuple[float, float]:
    """Seconds of sound, and its root mean square."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        resampler = av.AudioResampler(format="flt", layout="mono", rate=48_000)
        parts: list[Any] = []
        for frame in container.decode(stream):
            parts += [part.to_ndarray()[0] for part in resampler.resample(frame)]
    samples = np.concatenate(parts)
    return len(samples) / 48_000, float(np.sqrt((samples**2).mean()))


@pytest.mark.parametrize(
    ("name", "codec", "sound"),
    [
        ("a.mp4", "libx264", "aac"),
        ("a.ts", "libx264", "aac"),
        ("a.webm", "libvpx-vp9", "libopus"),
        ("a.mkv", "libx264", "libmp3lame"),
    ],
)
def test_sound_is_copied(tmp_path: Path, name: str, codec: str, sound: str) -> None:
    source = write_at(tmp_path / name, at_rate(25, 40), codec, sound=sound)
    (clip,) = open_source(str(source))
    out = annotated(clip, tmp_path / "out.mp4")
    before, after = packets_of(source), packets_of(out)
    assert len(after) > 40
    if name != "a.ts":  # where each AAC packet has a header
        assert [content for _, content in after] == [content for _, content in before[: len(after)]]
    assert loudness(out)[1] == pytest.approx(0.21, abs=0.02)
    assert after[0][0] < 0.05
    assert after[-1][0] == pytest.approx(1.6, abs=0.05)  # the source's ends at 2.06


def test_other_sound_is_encoded(tmp_path: Path) -> None:
    source = write_at(tmp_path / "a.mkv", at_rate(25, 40), sound="pcm_s16le")
    (clip,) = open_source(str(source))
    out = annotated(clip, tmp_path / "out.mp4")
    with av.open(str(out)) as container:
        assert container.streams.audio[0].codec_context.name == "aac"
    seconds, level = loudness(out)
    assert seconds == pytest.approx(1.6, abs=0.06)
    assert level == pytest.approx(0.21, abs=0.02)


def test_sound_ends_with_the_frames(tmp_path: Path) -> None:
    """As after --max-frames or Ctrl-C."""
    source = write_at(tmp_path / "a.mp4", at_rate(25, 40), sound="aac")
    (clip,) = open_source(str(source))
    frames = [frame for frame in clip.frames() if isinstance(frame, SourceFrame)][:10]
    out = annotated(clip, tmp_path / "out.mp4", frames)
    assert seconds_of(out) == pytest.approx(0.4, abs=0.04)


def test_sound_that_cannot_be_read_costs_no_frame(tmp_path: Path) -> None:
    source = write_at(tmp_path / "a.mp4", at_rate(25, 4), sound="aac")
    (clip,) = open_source(str(source))
    frames = [frame for frame in clip.frames() if isinstance(frame, SourceFrame)]
    source.unlink()
    out = annotated(clip, tmp_path / "out.mp4", frames)
    assert len(times_of(out)) == 4
