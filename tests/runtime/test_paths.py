"""Sources and outputs by their names: pipes, patterns, links, devices, and files taken twice."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image

from clips import data_set, write_folder, write_video
from helpers import Outcome, ended
from visolo_core.categories import SHAPES
from visolo_core.errors import VisoloError
from visolo_runtime.bench_source import frame_source
from visolo_runtime.sinks.outputs import Outputs, open_sinks
from visolo_runtime.sinks.own_files import check_own_files
from visolo_runtime.sources.clip import Skipped
from visolo_runtime.sources.frame_names import missing_numbers
from visolo_runtime.sources.opening import open_source, open_sources

Visolo = Callable[..., Outcome]


def write_frames(folder: Path, names: list[str]) -> list[Path]:
    """Pictures, each of the grey of its number."""
    folder.mkdir(exist_ok=True)
    for grey, name in enumerate(names):
        Image.new("RGB", (8, 6), (grey,) * 3).save(folder / name, format="PNG")
    return [folder / name for name in names]


def greys(source: str) -> list[int]:
    """Numbers of the pictures of a source with one clip, in its order."""
    (clip,) = open_source(source)
    return [int(picture[0, 0, 0]) for picture in clip.pictures()]


@contextlib.contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """``contextlib.chdir``, which Python 3.10 lacks."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


# ------------------------------------------------------------------------ names of frames


def test_hidden_files_are_no_frames(tmp_path: Path) -> None:
    write_frames(tmp_path / "f", ["0.png", "1.png"])
    for name in ("._0.png", ".DS_Store", "._1.png", "Thumbs.db", "desktop.ini"):
        (tmp_path / "f" / name).write_bytes(b"no picture")
    (tmp_path / "f" / "2.png").mkdir()
    for source in ("f", "f/*.png", "f/%d.png"):
        assert greys(str(tmp_path / source)) == [0, 1]


@pytest.mark.parametrize(
    ("pattern", "order"),
    [
        ("%05d.png", [1, 0]),
        ("%d.png", [2]),
        ("a%02d%%.png", [3, 4]),
        ("0*.png", [1, 0]),
        ("[0-9]*.png", [1, 2, 0]),
        ("a??%*", [3]),
    ],
)
def test_patterns_stand_for_frames(tmp_path: Path, pattern: str, order: list[int]) -> None:
    names = ["00010.png", "00002.png", "3.png", "a10%.png", "a100%.png", "a010%.png", "%.png"]
    write_frames(tmp_path / "f: 1", names)
    assert greys(str(tmp_path / "f: 1" / pattern)) == order


def test_a_pattern_that_is_a_name_is_that_file(tmp_path: Path) -> None:
    for name in ("%d.png", "a[1].png", "a*.png"):
        write_frames(tmp_path, [name, "1.png", "a1.png"])
        assert greys(str(tmp_path / name)) == [0]


def test_pictures_that_a_shell_lists_are_one_clip(tmp_path: Path) -> None:
    files = write_frames(tmp_path / "f", ["1.png", "10.png", "2.png"])
    (clip,) = open_sources([str(file) for file in files])
    assert clip.frame_names == ("1.png", "2.png", "10.png")
    assert clip.name == "f"


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ("*.mp4", "holds no images"),
        ("none/%d.png", "there is no folder"),
        ("%d-%d.png", "2 numbers"),
        ("%d.png", "holds no images"),
        ("mixed", "both images"),
        ("text", "no images and no videos"),
    ],
)
def test_patterns_and_folders_without_frames(tmp_path: Path, source: str, word: str) -> None:
    for folder, names in (("mixed", ["a.png", "b.mp4"]), ("text", ["notes.txt", "._0.png"])):
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).touch()
    with pytest.raises(VisoloError, match=word):
        open_source(str(tmp_path / source))


@pytest.mark.parametrize(
    ("numbers", "note"),
    [
        ([1, 2, 3], None),
        ([0, 5, 10, 15], None),
        ([7], None),
        ([1, 2, 9, 10], "6 frames are missing between 'f2.png' and 'f9.png'"),
        ([0, 5, 15, 20], "1 frame is missing between 'f5.png' and 'f15.png'"),
        (
            [1, 2, 4, 5, 9, 10],
            "4 frames are missing in 2 gaps, the longest of 3 between 'f5.png' and 'f9.png'",
        ),
        ([1000, 1033, 1067, 1100, 1133], None),  # times in milliseconds
        ([1000, 1033, 1066, 1400], "9 frames are missing between 'f1066.png' and 'f1400.png'"),
    ],
)
def test_gaps_in_numbers(numbers: list[int], note: str | None) -> None:
    assert missing_numbers([f"f{number}.png" for number in numbers]) == note


def test_names_without_numbers_have_no_gaps() -> None:
    assert missing_numbers(["a.png", "b.png"]) is None
    assert missing_numbers(["a1.png", "b9.png", "c3.png"]) is None
    assert missing_numbers(["1.png", "1.jpg"]) is None


def test_a_gap_is_reported_once(lite_bundle: Path, tmp_path: Path, visolo: Visolo) -> None:
    folder = write_folder(tmp_path / "frames", frames=8)
    for number in (3, 4, 5):
        (folder / f"{number}.png").unlink()
    for source in (folder, folder / "%d.png"):
        outcome = visolo("run", lite_bundle, source).succeeded()
        note = "visolo: frames: 3 frames are missing between '2.png' and '6.png'"
        assert outcome.err.splitlines().count(note) == 1


# -------------------------------------------------------------------------- names of videos


def test_a_folder_of_videos(lite_bundle: Path, tmp_path: Path, visolo: Visolo) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    for name, frames in (("b10.mp4", 3), ("b9.mkv", 2)):
        write_video(folder / name, frames=frames)
    (folder / "._b9.mkv").write_bytes(b"of macOS")
    for source in (folder, folder / "b*"):
        clips = open_source(str(source))
        assert [(clip.video_id, clip.name) for clip in clips] == [(1, "b9"), (2, "b10")]
        assert [len(list(clip.frames())) for clip in clips] == [2, 3]
    out = tmp_path / "out"
    visolo("run", lite_bundle, folder, "--video", out).succeeded()
    assert sorted(path.name for path in out.iterdir()) == ["1.mp4", "2.mp4"]


def test_an_unreadable_video_of_a_folder_is_its_own_error(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", frames=2)
    (tmp_path / "b.mp4").write_bytes(b"no video")
    whole, broken = open_source(str(tmp_path))
    assert len(list(whole.frames())) == 2
    with pytest.raises(VisoloError, match=r"cannot open '.*b\.mp4'"):
        list(broken.frames())


def test_names_with_a_colon(lite_bundle: Path, tmp_path: Path, visolo: Visolo) -> None:
    write_video(tmp_path / "12:30.mp4", frames=2)
    (tmp_path / "rtsp:").mkdir()
    write_video(tmp_path / "rtsp:" / "a.mp4", frames=2)
    (tmp_path / "0").mkdir()
    write_folder(tmp_path / "0" / "f")
    with working_in(tmp_path):
        for source in ("12:30.mp4", "rtsp://a.mp4"):
            visolo("run", lite_bundle, source, "--video", "http:out.mp4").succeeded()
            with av.open("file:http:out.mp4") as container:
                assert len(list(container.decode(video=0))) == 2
            Path("http:out.mp4").unlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "12:30.mp4", "rtsp:"]


def test_an_address_may_be_longer_than_a_name() -> None:
    (clip,) = open_source("rtsp://camera/" + "x" * 5000)
    assert clip.live


# ------------------------------------------------------------------------------------ pipes


def fill(fifo: Path, content: bytes) -> threading.Thread:
    """Make a FIFO, and a thread that writes this into it."""
    os.mkfifo(fifo)

    def write() -> None:
        # One that finds no video in it goes away early.
        with contextlib.suppress(BrokenPipeError), fifo.open("wb") as file:
            file.write(content)

    thread = threading.Thread(target=write)
    thread.start()
    return thread


@pytest.mark.parametrize("suffix", ["ts", "mkv", "mp4"])
def test_a_fifo_is_opened_once(tmp_path: Path, suffix: str) -> None:
    """An mp4 has its index at the end, and cannot be read from its beginning to its end."""
    content = write_video(tmp_path / f"a.{suffix}", frames=6).read_bytes()
    writer = fill(tmp_path / "fifo", content)
    (clip,) = open_source(str(tmp_path / "fifo"))
    assert (clip.name, clip.fps, clip.once, clip.live) == ("fifo", Fraction(25), True, False)
    pictures = list(clip.pictures())
    ended(writer)
    assert [picture.shape for picture in pictures] == [(96, 160, 3)] * 6
    with pytest.raises(VisoloError, match="only once"):
        list(clip.frames())


@pytest.mark.parametrize("content", [b"", b"text", b"\0\0\0\x18ftypisom", b"\0\0\0\0free" * 9])
def test_a_fifo_without_a_video(tmp_path: Path, content: bytes) -> None:
    writer = fill(tmp_path / "fifo", content)
    with pytest.raises(VisoloError, match="cannot open 'fifo' as a video"):
        open_source(str(tmp_path / "fifo"))
    ended(writer)


def test_a_pipe_is_not_measured(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")  # not opened, so that it needs no writer
    for source in (str(tmp_path / "fifo"), "-"):
        with pytest.raises(VisoloError, match="is a pipe and cannot be read twice"):
            frame_source(source, 2)


def test_one_pipe_is_not_two_sources(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("fifo")
    with pytest.raises(VisoloError, match="two sources are the same"):
        open_sources([str(tmp_path / "fifo"), str(tmp_path / "link")])


def test_standard_input_and_output(lite_bundle: Path, tmp_path: Path) -> None:
    """A whole file on standard input, and a pipe; lines to ``/dev/stdout``, which is a pipe."""
    source = write_video(tmp_path / "a.mp4", frames=3)
    command = [sys.executable, "-m", "visolo.cli", "run", lite_bundle, "-", "--frames"]
    for output, stdin in (("/dev/stdout", source.open("rb")), ("-", None)):
        with subprocess.Popen(
            [str(part) for part in (*command, output)],
            stdin=stdin or subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as process:
            printed, _ = process.communicate(None if stdin else source.read_bytes(), timeout=120)
        if stdin:
            stdin.close()
        assert process.returncode == 0
        assert [json.loads(line)["frame"] for line in printed.splitlines()] == [0, 1, 2]


def test_lines_reach_the_reader_of_a_fifo(
    lite_bundle: Path, tmp_path: Path, visolo: Visolo
) -> None:
    folder, fifo = write_folder(tmp_path / "frames"), tmp_path / "fifo"
    os.mkfifo(fifo)
    received: list[str] = []
    reader = threading.Thread(target=lambda: received.extend(fifo.read_text().splitlines()))
    reader.start()
    visolo("run", lite_bundle, folder, "--frames", fifo).succeeded()
    ended(reader)
    assert [json.loads(line)["frame"] for line in received] == [0, 1, 2, 3]
    assert fifo.is_fifo()


# ---------------------------------------------------------------------------------- outputs


def test_links_and_devices_are_written_through(
    lite_bundle: Path, tmp_path: Path, visolo: Visolo
) -> None:
    folder, target = write_folder(tmp_path / "frames"), tmp_path / "target.mp4"
    terminal, other_end = os.openpty()
    links = {"r.json": os.ttyname(other_end), "f.jsonl": "lines.jsonl", "v.mp4": "target.mp4"}
    for name, leads_to in links.items():
        (tmp_path / name).symlink_to(leads_to)
    visolo(
        "run", lite_bundle, folder, "--results", tmp_path / "r.json",
        "--frames", tmp_path / "f.jsonl", "--video", tmp_path / "v.mp4", "--classes", "none",
    ).refused("class 'none'")  # fmt: skip
    assert not target.exists()
    visolo(
        "run", lite_bundle, folder, "--results", tmp_path / "r.json",
        "--frames", tmp_path / "f.jsonl", "--video", tmp_path / "v.mp4", "--conf", 1,
    ).succeeded()  # fmt: skip
    assert os.read(terminal, 100) == b"[]"  # without an instance
    for name, leads_to in links.items():
        assert str((tmp_path / name).readlink()) == leads_to
    assert len((tmp_path / "lines.jsonl").read_text().splitlines()) == 4
    assert target.is_file()
    os.close(terminal)
    os.close(other_end)


@pytest.mark.parametrize("output", ["in.mp4", "link", "hard", "./frames/../in.mp4"])
@pytest.mark.parametrize("option", ["--video", "--results", "--frames"])
def test_an_output_is_no_source(
    lite_bundle: Path, tmp_path: Path, visolo: Visolo, option: str, output: str
) -> None:
    source = write_video(tmp_path / "in.mp4", frames=2)
    (tmp_path / "frames").mkdir()
    (tmp_path / "link").symlink_to("in.mp4")
    (tmp_path / "hard").hardlink_to(source)
    before = source.read_bytes()
    visolo("run", lite_bundle, source, option, tmp_path / output).refused("which is read", option)
    assert source.read_bytes() == before


def test_an_output_is_nothing_else_that_is_read(
    lite_bundle: Path, tmp_path: Path, visolo: Visolo
) -> None:
    source, manifest = data_set(tmp_path), lite_bundle / "manifest.json"
    frame = tmp_path / "JPEGImages" / "one" / "2.png"
    for path in (source, frame, manifest):
        before = path.read_bytes()
        visolo("run", lite_bundle, source, "--results", path).refused("which is read")
        assert path.read_bytes() == before
    videos = tmp_path / "videos"
    videos.mkdir()
    clips = [str(write_video(videos / f"{number}.mp4", frames=2)) for number in (1, 2)]
    visolo("run", lite_bundle, *clips, "--video", videos).refused("which is read")


@pytest.mark.parametrize("second", ["out", "./out", "link"])
def test_an_output_is_no_other_output(
    lite_bundle: Path, tmp_path: Path, visolo: Visolo, second: str
) -> None:
    folder = write_folder(tmp_path / "frames")
    (tmp_path / "link").symlink_to("out")
    with working_in(tmp_path):
        visolo(
            "run", lite_bundle, folder, "--results", "out", "--video", second
        ).refused("same file")  # fmt: skip
        assert not Path("out").exists()
        visolo(
            "run", lite_bundle, data_set(tmp_path), "--results", "out", "--video", second
        ).refused("folder of --video")  # fmt: skip


def test_one_device_takes_several_outputs(tmp_path: Path) -> None:
    """Only asked for: nothing is written to the machine's own device."""
    null = Path(os.devnull)
    check_own_files([("--results", null), ("--video", null)], [tmp_path])


def test_an_evaluation_keeps_its_data(lite_bundle: Path, tmp_path: Path, visolo: Visolo) -> None:
    source = data_set(tmp_path)
    document = json.loads(source.read_text())
    names = ["disc", "square", "triangle", "star", "cross", "ring"]
    document["categories"] = [{"id": n, "name": name} for n, name in enumerate(names, start=1)]
    document["annotations"] = []
    source.write_text(json.dumps(document))
    visolo("eval", lite_bundle, "--data", source, "--results", source).refused("which is read")
    assert json.loads(source.read_text()) == document


# --------------------------------------------------------------------------- what is written


def instances(path: Path) -> list[dict[str, Any]]:
    return [
        each for line in path.read_text().splitlines() for each in json.loads(line)["instances"]
    ]


def test_only_some_classes(lite_bundle: Path, tmp_path: Path, visolo: Visolo) -> None:
    source, frames = write_video(tmp_path / "a.mp4", frames=8), tmp_path / "f.jsonl"
    results = tmp_path / "r.json"
    visolo("run", lite_bundle, source, "--frames", frames).succeeded()
    labels = {each["label"] for each in instances(frames)}
    assert len(labels) > 1
    label = sorted(labels)[0]
    visolo(
        "run", lite_bundle, source, "--frames", frames, "--results", results,
        "--classes", f"{label.upper()}, ",
    ).succeeded()  # fmt: skip
    kept = instances(frames)
    assert {(each["label"], each["track_label"]) for each in kept} == {(label, label)}
    categories = {entry["category_id"] for entry in json.loads(results.read_text())}
    assert categories == {each["category_id"] for each in kept}
    visolo("run", lite_bundle, source, "--classes", "disc,moon").refused(
        "'moon' is unknown", "star"
    )
    visolo("run", lite_bundle, source, "--classes", ",").refused("no class")


def test_the_lowest_score(lite_bundle: Path, tmp_path: Path, visolo: Visolo) -> None:
    """Every instance of at least this score, as if the others had been left out afterwards."""
    source, frames = write_video(tmp_path / "a.mp4", frames=4), tmp_path / "f.jsonl"
    visolo("run", lite_bundle, source, "--frames", frames, "--conf", 0.02).succeeded()
    all_scores = [each["score"] for each in instances(frames)]
    assert min(all_scores) < 0.1  # below the usual thresholds
    middle = sorted(all_scores)[len(all_scores) // 2]
    visolo("run", lite_bundle, source, "--frames", frames, "--conf", middle).succeeded()
    scores = [each["score"] for each in instances(frames)]
    assert 0 < len(scores) < len(all_scores)
    assert min(scores) >= middle - 1e-6
    visolo("run", lite_bundle, source, "--conf", "nan").refused("0 to 1")
    visolo("run", lite_bundle, source, "--conf", 0.3, "--set", "score_threshold=0.1").refused(
        "leave out"
    )
    visolo("demo", "--conf", 0.3).refused("--source")


def test_a_demo_of_ones_own_source(
    lite_bundle: Path, tmp_path: Path, visolo: Visolo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("visolo_runtime.models.shipped.shipped_model", lambda name: lite_bundle)
    source, out = write_video(tmp_path / "a.mp4", frames=4), tmp_path / "out"
    visolo("demo", "--source", source, "-o", out, "--conf", 0.02).succeeded()
    found = list(instances(out / "frames.jsonl"))
    label = min(each["label"] for each in found)
    assert any(each["score"] < 0.3 for each in found)
    visolo("demo", "--source", source, "-o", out).succeeded()
    assert all(each["score"] >= 0.3 for each in instances(out / "frames.jsonl"))
    arguments = ["-o", out, "--conf", 0.02, "--classes", label]
    visolo("demo", "--source", source, *arguments).succeeded()
    assert {each["label"] for each in instances(out / "frames.jsonl")} == {label}
    visolo("demo", "--source", out / "annotated.mp4", *arguments).refused("which is read")


def test_an_interrupt_while_a_fifo_waits_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("visolo_runtime.sinks.outputs.frame_lines", interrupted)
    (clip,) = open_source(str(write_folder(tmp_path / "f")))
    with pytest.raises(KeyboardInterrupt):
        open_sinks([clip], SHAPES, Outputs(tmp_path / "r.json", tmp_path / "fifo"))
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_a_skipped_picture_has_its_name(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    (clip,) = open_source(str(tmp_path / "a.png"))
    assert isinstance(next(iter(clip.frames())), Skipped)
