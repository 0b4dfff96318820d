"""Sources of frames, whole and broken."""

from __future__ import annotations

import json
import socket
import threading
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from clips import data_set, write_folder, write_video
from helpers import Outcome, ended
from visolo_core.errors import VisoloError
from visolo_runtime.sources.clip import Clip, Skipped, SourceFrame
from visolo_runtime.sources.opening import open_source
from visolo_runtime.sources.pictures import natural_order
from visolo_runtime.sources.reconnecting import SourceLost
from visolo_runtime.sources.source_options import SourceOptions
from visolo_runtime.video.sample_clip import sample_frames

Visolo = Callable[..., Outcome]


def pictures_of(clip: Clip) -> list[Any]:
    """The pictures, and ``Skipped`` in place of those that cannot be read."""
    return [frame.picture if isinstance(frame, SourceFrame) else frame for frame in clip.frames()]


def read(source: object) -> list[Any]:
    (clip,) = open_source(str(source))
    return pictures_of(clip)


def test_a_video_file(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4")
    (clip,) = open_source(str(path))
    assert (clip.name, clip.fps, clip.length, clip.live) == ("a", Fraction(25), 24, False)
    frames = pictures_of(clip)
    assert len(frames) == 24
    for frame, drawn in zip(frames, sample_frames(24, 96, 160), strict=True):
        assert isinstance(frame, np.ndarray)
        assert frame.shape == (96, 160, 3)
        assert np.abs(frame.astype(int) - drawn).mean() < 8  # right frame, right channel order


def test_a_folder_in_the_order_of_its_numbers(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "frames", frames=12)
    (folder / "notes.txt").write_text("not an image")
    for frame, drawn in zip(read(folder), sample_frames(12, 48, 64), strict=True):
        assert np.array_equal(frame, drawn)


@given(st.lists(st.text(max_size=8), max_size=6))
def test_any_names_can_be_sorted(names: list[str]) -> None:
    assert Counter(sorted(names, key=natural_order)) == Counter(names)


def test_grey_and_transparent_images_become_rgb(tmp_path: Path) -> None:
    Image.new("L", (8, 6), 9).save(tmp_path / "0.png")
    Image.new("RGBA", (8, 6), (1, 2, 3, 4)).save(tmp_path / "1.png")
    assert [frame.shape for frame in read(tmp_path)] == [(6, 8, 3), (6, 8, 3)]


def test_a_corrupt_image_is_skipped(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "frames")
    whole = (folder / "1.png").read_bytes()
    (folder / "1.png").write_bytes(whole[: len(whole) // 2])
    (folder / "2.png").write_bytes(b"")
    frames = read(folder)
    assert [isinstance(frame, Skipped) for frame in frames] == [False, True, True, False]


def test_a_video_that_breaks_off_keeps_what_there_is(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    frames = [frame for frame in read(path) if not isinstance(frame, Skipped)]
    assert 4 < len(frames) < 24


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("text.mp4", b"this is no video", "cannot open"),
        ("empty.mp4", b"", "cannot open"),
        ("short.mp4", None, "cannot open"),
    ],
)
def test_unreadable_videos(
    tmp_path: Path, lite_bundle: Path, visolo: Visolo, name: str, content: bytes | None, word: str
) -> None:
    path = tmp_path / name
    whole = write_video(tmp_path / "whole.mp4").read_bytes()
    path.write_bytes(whole[:2000] if content is None else content)
    results = tmp_path / "results.json"
    visolo("run", lite_bundle, path, "--results", results).refused(word, name)
    assert not results.exists()


def test_a_video_without_frames(tmp_path: Path, lite_bundle: Path, visolo: Visolo) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    (folder / "0.png").write_bytes(b"broken")
    outputs = ["--results", tmp_path / "r.json", "--video", tmp_path / "v.mp4"]
    outcome = visolo("run", lite_bundle, folder, *outputs)
    assert outcome.status == 2
    assert "no frame that can be read" in outcome.err
    assert [path.name for path in tmp_path.iterdir()] == ["frames"]


def test_sound_alone_is_not_a_video(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 800), np.int16), format="s16", layout="mono"
        )
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(VisoloError, match="has no video stream"):
        open_source(str(path))


def test_a_live_stream(tmp_path: Path) -> None:
    """A server on this machine sends an MPEG transport stream and hangs up."""
    content = write_video(tmp_path / "a.ts", frames=12).read_bytes()
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            connection.sendall(content)

    thread = threading.Thread(target=serve)
    thread.start()
    address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
    (clip,) = open_source(address, options=SourceOptions(retry_s=0))
    assert clip.live
    events = clip.frames()
    frames = [next(events) for _ in range(12)]
    with pytest.raises(SourceLost, match="the connection was closed"):
        next(events)
    ended(thread)
    server.close()
    assert all(isinstance(frame, SourceFrame) for frame in frames)


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ("nowhere.mp4", "there is no video"),
        ("97", "there is no camera 97"),
        ("{tmp}", "holds no images"),
    ],
)
def test_sources_that_are_not_there(
    tmp_path: Path, lite_bundle: Path, visolo: Visolo, source: str, word: str
) -> None:
    visolo("run", lite_bundle, source.format(tmp=tmp_path)).refused(word)


def test_a_live_source_that_is_not_there(lite_bundle: Path, visolo: Visolo) -> None:
    outcome = visolo("run", lite_bundle, "rtsp://127.0.0.1:9/none", "--retry", 0)
    assert outcome.status == 1
    assert "cannot be reached: connection refused" in outcome.err


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--retry", "-1", "--retry must be 0 s or more"),
        ("--timeout", "0", "--timeout must be more than 0"),
        ("--timeout", "nan", "--timeout must be more than 0"),
        ("--source-type", "film", "choose from auto, recording, live"),
        ("--rtsp-transport", "http", "choose from auto, tcp, udp"),
        ("--after-gap", "stop", "choose from keep, new"),
    ],
)
def test_options_of_sources_are_checked(
    lite_bundle: Path, visolo: Visolo, option: str, value: str, words: str
) -> None:
    visolo("run", lite_bundle, "0", option, value).refused(words)


# ----------------------------------------------------------------- YouTube-VIS json files


def test_a_data_set(tmp_path: Path) -> None:
    clips = open_source(str(data_set(tmp_path)))
    assert [(clip.video_id, clip.name, clip.length, clip.size) for clip in clips] == [
        (4, "one", 3, (48, 64)),
        (9, "two", 2, (80, 40)),
    ]
    assert [len(list(clip.frames())) for clip in clips] == [3, 2]


def test_images_elsewhere(tmp_path: Path) -> None:
    path = data_set(tmp_path)
    (tmp_path / "JPEGImages").rename(tmp_path / "pictures")
    with pytest.raises(VisoloError, match="there is no frame"):
        open_source(str(path))
    assert len(open_source(str(path), tmp_path / "pictures")) == 2


@pytest.mark.parametrize(
    ("videos", "word"),
    [
        ([{"id": 1, "height": 8, "width": 8, "file_names": ["../../secret.png"]}], "leads out of"),
        ([{"id": 1, "height": 8, "width": 8, "file_names": ["/etc/passwd"]}], "leads out of"),
        ([{"id": 1, "height": 8, "width": 8, "file_names": []}], "lists no frames"),
        ([{"height": 8, "width": 8, "file_names": ["one/0.png"]}], "YouTube-VIS format"),
        ([{"id": "x", "height": 8, "width": 8, "file_names": ["one/0.png"]}], "YouTube-VIS"),
        ([7], "YouTube-VIS format"),
        ([{"id": 1, "height": 8, "width": 8, "file_names": ["one/0.png"]}] * 2, "id twice"),
    ],
)
def test_data_sets_that_cannot_be_used(
    tmp_path: Path, videos: list[dict[str, Any]], word: str
) -> None:
    with pytest.raises(VisoloError, match=word):
        open_source(str(data_set(tmp_path, videos)))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"videos": 3}', '{"videos": []}', "[" * 100_000])
def test_json_files_that_are_not_a_data_set(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(VisoloError, match=r"a\.json"):
        open_source(str(path))


@given(st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["id", "videos", "file_names", "height", "width"]), inner, max_size=5
    ),
    max_leaves=12,
))  # fmt: skip
def test_any_json_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    path = tmp_path_factory.mktemp("any") / "a.json"
    path.write_text(json.dumps({"videos": value}))
    with pytest.raises(VisoloError):
        open_source(str(path))
