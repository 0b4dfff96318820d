"""What a run keeps when a clip or an output fails: everything else, and what came before."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from clips import data_set, write_folder, write_video
from faults import can_mount, small_disk
from helpers import LIMIT_S, Outcome, ended
from skips import NEEDS_MOUNT
from visolo_core.instances import Instances
from visolo_core.results import Track
from visolo_runtime.run_summary import RunSummary
from visolo_runtime.runner import RunOptions, run
from visolo_runtime.session.loading import Model, load
from visolo_runtime.sinks.clip_files import PartFiles
from visolo_runtime.sinks.outputs import Outputs, open_sinks
from visolo_runtime.sinks.sink import FileSink, Sink
from visolo_runtime.sources.clip import Clip, Cut, Notice, SourceFrame
from visolo_runtime.track import track
from visolo_runtime.video.sample_clip import sample_frames

Visolo = Callable[..., Outcome]


@pytest.fixture(scope="module")
def model(lite_bundle: Path) -> Model:
    return load(lite_bundle, "onnxruntime", threads=1)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def frames_in(path: Path) -> int:
    with av.open(str(path)) as container:
        return len(list(container.decode(video=0)))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# ---------------------------------------------------------------------------- clips that fail


def test_a_video_that_changes_size_ends_there(
    lite_bundle: Path, tmp_path: Path, visolo: Visolo
) -> None:
    folder, out = write_folder(tmp_path / "frames"), tmp_path / "out"
    out.mkdir()
    Image.new("RGB", (10, 10)).save(folder / "2.png")
    outcome = visolo(
        "run", lite_bundle, folder, "--results", out / "r.json", "--frames", out / "f.jsonl",
        "--video", out / "v.mp4", "--json",
    )  # fmt: skip
    assert outcome.status == 1
    reason = "ends after 2 frames, frame 2 is 10x10, but the video began with 64x48"
    assert f"visolo: frames: {reason}" in outcome.err
    summary = outcome.json()
    (failure,) = summary["failed"]
    assert failure["name"] == "frames"
    assert reason in failure["reason"]
    assert "frame 2 is 10x10" in summary["streams"][0]["failed"]
    assert names(out) == ["f.jsonl", "r.json", "v.mp4"]
    assert [line["frame"] for line in lines(out / "f.jsonl")] == [0, 1]
    assert frames_in(out / "v.mp4") == 2
    assert {len(each["segmentations"]) for each in json.loads((out / "r.json").read_text())} == {2}


def test_one_video_of_several_that_fails_is_named(
    lite_bundle: Path, tmp_path: Path, visolo: Visolo
) -> None:
    """The first cannot be opened at all, the second ends early, the third is whole."""
    source, videos = data_set(tmp_path), tmp_path / "videos"
    document = json.loads(source.read_text())
    (tmp_path / "JPEGImages" / "none").mkdir()
    (tmp_path / "JPEGImages" / "none" / "0.png").write_bytes(b"no picture")
    none = {"id": 2, "height": 48, "width": 64, "file_names": ["none/0.png"]}
    document["videos"].insert(0, none)
    source.write_text(json.dumps(document))
    Image.new("RGB", (9, 9)).save(tmp_path / "JPEGImages" / "two" / "1.png")
    outcome = visolo("run", lite_bundle, source, "--video", videos)
    assert outcome.status == 1
    summary = [line for line in outcome.err.splitlines() if line.startswith("failed: ")]
    assert len(summary) == 2
    assert "no frame that can be read" in summary[0]
    assert "two: ends after 1 frames" in summary[1]
    assert "is 9x9" in summary[1]
    assert names(videos) == ["4.mp4", "9.mp4"]
    assert [frames_in(videos / name) for name in ("4.mp4", "9.mp4")] == [3, 1]


def test_a_file_among_others_that_is_no_video_is_named(
    lite_bundle: Path, tmp_path: Path, visolo: Visolo
) -> None:
    good, bad, videos = write_video(tmp_path / "good.mp4"), tmp_path / "bad.mp4", tmp_path / "out"
    bad.write_bytes(b"no video")
    outcome = visolo("run", lite_bundle, bad, good, "--video", videos, "--max-frames", 3)
    assert outcome.status == 1
    assert "failed: bad: cannot open" in outcome.err
    assert names(videos) == ["2.mp4"]
    # A name without a file is wrong use: nothing runs.
    visolo("run", lite_bundle, tmp_path / "none.mp4", good).refused("there is no video")


def test_nothing_at_all_is_refused(lite_bundle: Path, tmp_path: Path, visolo: Visolo) -> None:
    folder, out = tmp_path / "videos", tmp_path / "out"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(b"no video")
    outcome = visolo("run", lite_bundle, folder, "--results", out)
    outcome.refused("cannot open")
    (folder / "b.mp4").write_bytes(b"no video")
    outcome = visolo("run", lite_bundle, folder, "--results", out)
    assert outcome.status == 2
    assert "none of 2 videos can be run" in outcome.err.splitlines()[-1]
    assert names(tmp_path) == ["videos"]


def test_an_evaluation_leaves_a_failing_video_out(
    lite_bundle: Path, tmp_path: Path, visolo: Visolo
) -> None:
    source, results = data_set(tmp_path), tmp_path / "r.json"
    document = json.loads(source.read_text())
    labels = ["disc", "square", "triangle", "star", "cross", "ring"]
    document["categories"] = [{"id": n, "name": name} for n, name in enumerate(labels, start=1)]
    document["annotations"] = []
    source.write_text(json.dumps(document))
    arguments = ("eval", lite_bundle, "--data", source, "--results", results, "--json")
    whole = visolo(*arguments).succeeded()
    before = json.loads(results.read_text())
    Image.new("RGB", (9, 9)).save(tmp_path / "JPEGImages" / "two" / "1.png")
    outcome = visolo(*arguments)
    assert outcome.status == 1
    assert set(outcome.json()) == set(whole.json())
    assert "two: ends after 1 frames" in outcome.err
    assert "1 of 2 videos could not be run" in outcome.err
    assert json.loads(results.read_text()) == [each for each in before if each["video_id"] == 4]


def test_a_pipe_that_stops_does_not_hold_up_others(model: Model) -> None:
    others_are_over = threading.Event()

    def stopping() -> Iterator[SourceFrame]:
        yield SourceFrame(SMALL[0], 0.0)
        assert others_are_over.wait(LIMIT_S), "the other clip waits"
        yield SourceFrame(SMALL[1], 1.0)

    def progress(clip: Clip, position: int, summary: RunSummary) -> None:
        if clip.name == "camera 0" and position == len(SMALL):
            others_are_over.set()

    pipe = Clip(1, "pipe", stopping)
    whole = replace(live_clip(*SMALL), live=False)
    summary = run(model, [pipe, whole], [], RunOptions(streams=2), progress)
    assert [counts.frames for counts in summary.streams] == [2, 3]
    assert summary.exit_status == 0


# ------------------------------------------------------------------------------------- cuts


class Notes(Sink):
    """Numbers and times of the frames of each clip."""

    def __init__(self) -> None:
        self.frames: dict[tuple[int, str], list[tuple[int, float]]] = {}
        self.lengths: dict[str, set[int]] = {}
        self.open: set[str] = set()

    def begin(self, clip: Clip) -> None:
        assert not self.open
        self.open.add(clip.name)
        self.frames[clip.video_id, clip.name] = []

    def frame(self, clip: Clip, frame: SourceFrame, instances: Instances) -> None:
        assert instances.size == frame.picture.shape[:2]
        self.frames[clip.video_id, clip.name].append((instances.frame, frame.time_s))

    def end(self, clip: Clip, tracks: list[Track]) -> None:
        self.open.remove(clip.name)
        self.lengths[clip.name] = {len(track.segmentations) for track in tracks}


def live_clip(*parts: Any) -> Clip:
    """Frames that come once a second, with what else is between them."""

    def frames() -> Iterator[Any]:
        number = 0
        for part in parts:
            if isinstance(part, np.ndarray):
                yield SourceFrame(part, float(number))
                number += 1
            else:
                yield part

    return Clip(7, "camera 0", frames, live=True)


SMALL = list(sample_frames(3, 96, 160))
LARGE = list(sample_frames(2, 120, 200))


def test_a_size_that_changes_begins_a_clip(model: Model) -> None:
    notes, reports = Notes(), list[str]()
    clip = live_clip(*SMALL, *LARGE, SMALL[0])
    summary = run(
        model, [clip], [notes], RunOptions(record=True, live="all"), report=reports.append
    )
    assert notes.frames == {
        (7, "camera 0"): [(0, 0.0), (1, 1.0), (2, 2.0)],
        (8, "camera 0 (2)"): [(0, 0.0), (1, 1.0)],
        (9, "camera 0 (3)"): [(0, 0.0)],
    }
    assert notes.lengths == {"camera 0": {3}, "camera 0 (2)": {2}, "camera 0 (3)": {1}}
    assert [counts.frames for counts in summary.streams] == [3, 2, 1]
    assert (summary.exit_status, summary.clips) == (0, 3)
    assert reports == [
        "camera 0: 'camera 0 (2)' begins, frames are 200x120 from here on, not 160x96",
        "camera 0 (2): 'camera 0 (3)' begins, frames are 160x96 from here on, not 200x120",
    ]


def test_a_cut_begins_a_clip_of_the_same_size(model: Model) -> None:
    notes, reports = Notes(), list[str]()
    gap = Notice("no frame came for 4.0 s", gap_s=4.0)
    cut = Cut("tracks begin anew")
    clip = live_clip(cut, *SMALL, gap, cut, *SMALL)
    options = RunOptions(record=True, live="all", max_frames=5)
    summary = run(model, [clip], [notes], options, report=reports.append)
    assert [len(frames) for frames in notes.frames.values()] == [3, 2]  # five in all
    assert reports == [
        "camera 0: 'camera 0 (2)' begins, tracks begin anew",
        "camera 0 (2): no frame came for 4.0 s",
    ]
    assert summary.streams[1].gap_seconds == 4.0
    assert summary.streams[1].as_dict()["notices"] == 1


def test_each_clip_of_a_stream_has_its_own_video(model: Model, tmp_path: Path) -> None:
    video, results = tmp_path / "out.mp4", tmp_path / "r.json"
    (tmp_path / "out-2.mp4").write_text("of the user")
    clip = live_clip(*SMALL, *LARGE)
    sinks = open_sinks([clip], model.labels, Outputs(results=results, video=video))
    run(model, [clip], sinks, RunOptions(record=True, live="all"))
    assert names(tmp_path) == ["out-2.mp4", "out-3.mp4", "out.mp4", "r.json"]
    assert [frames_in(tmp_path / name) for name in ("out.mp4", "out-3.mp4")] == [3, 2]
    assert (tmp_path / "out-2.mp4").read_text() == "of the user"
    entries = json.loads(results.read_text())
    assert {each["video_id"]: len(each["segmentations"]) for each in entries} == {7: 3, 8: 2}


def test_track_begins_anew_where_a_size_changes(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = live_clip(*SMALL, *LARGE, Cut("tracks begin anew"), LARGE[0])
    may_come = threading.Semaphore(1)  # each when the one before has been looked at

    def frames() -> Iterator[Any]:
        for each in clip.frames():
            assert isinstance(each, Cut) or may_come.acquire(timeout=LIMIT_S)
            yield each

    paced = replace(clip, frames=frames)
    monkeypatch.setattr("visolo_runtime.sources.opening.open_source", lambda source: [paced])
    seen = []
    for _, found in track(model, "camera"):
        seen.append((found.frame, found.size))
        may_come.release()
    small, large = (96, 160), (120, 200)
    assert seen == [(0, small), (1, small), (2, small), (0, large), (1, large), (0, large)]


def test_a_camera_whose_size_changes(lite_bundle: Path, tmp_path: Path, visolo: Visolo) -> None:
    """Motion JPEG by HTTP."""
    pictures = list[bytes]()
    for frame in (*SMALL, *LARGE):
        file = io.BytesIO()
        Image.fromarray(frame).save(file, "JPEG")
        pictures.append(file.getvalue())

    class Camera(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            for each in pictures:
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(each)}\r\n\r\n"
                self.wfile.write(head.encode() + each + b"\r\n")

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Camera) as server:

        def serve() -> None:
            server.handle_request()  # what it is
            server.handle_request()  # its frames

        thread = threading.Thread(target=serve)
        thread.start()
        outcome = visolo(
            "run", lite_bundle, f"http://127.0.0.1:{server.server_port}/", "--live", "all",
            "--frames", tmp_path / "f.jsonl", "--video", tmp_path / "v.mp4", "--max-frames", 5,
            "--json",
        )  # fmt: skip
        ended(thread)
    assert [each["frames"] for each in outcome.json()["streams"]] == [3, 2]
    sizes = [(line["video_id"], *line["size"]) for line in lines(tmp_path / "f.jsonl")]
    assert sizes == [(1, 96, 160)] * 3 + [(2, 120, 200)] * 2
    assert [frames_in(tmp_path / name) for name in ("v.mp4", "v-2.mp4")] == [3, 2]


# --------------------------------------------------------------------------- outputs that fail


class Failing(FileSink):
    """A file that cannot be written at some point."""

    def __init__(self, path: Path, when: str, error: Exception) -> None:
        super().__init__(path)
        self._when, self._error = when, error

    def frame(self, clip: Clip, frame: SourceFrame, instances: Instances) -> None:
        if self._when == "frame" and instances.frame == 1:
            raise self._error

    def end(self, clip: Clip, tracks: list[Track]) -> None:
        if self._when == "end":
            raise self._error

    def commit(self) -> None:
        if self._when == "commit":
            raise self._error
        super().commit()


@pytest.mark.parametrize("when", ["frame", "end", "commit"])
@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", ".hidden"), "no space left on device"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), "broken pipe"),
        (av.error.ExternalError(errno.EIO, "Generic error in an external library"), "external"),
    ],
)
def test_an_output_that_fails_ends_alone(
    model: Model, tmp_path: Path, when: str, error: Exception, words: str
) -> None:
    clip = live_clip(*SMALL)
    whole, bad = tmp_path / "f.jsonl", tmp_path / "bad.bin"
    reports = list[str]()
    sinks = [Failing(bad, when, error), *open_sinks([clip], model.labels, Outputs(frames=whole))]
    summary = run(model, [clip], sinks, RunOptions(live="all"), report=reports.append)
    assert len(lines(whole)) == 3
    assert names(tmp_path) == ["f.jsonl"]
    (failure,) = summary.failed_outputs
    assert failure.name == str(bad)
    assert f"cannot write '{bad}'" in failure.reason
    assert words in failure.reason
    assert "hidden" not in failure.reason
    assert reports == [failure.reason]
    assert summary.exit_status == 1


def test_what_is_no_failure_of_an_output_is_not_hidden(model: Model, tmp_path: Path) -> None:
    sink = Failing(tmp_path / "a", "frame", ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        run(model, [live_clip(*SMALL)], [sink], RunOptions(live="all"))
    assert names(tmp_path) == []


def test_a_run_ends_with_its_last_output(model: Model, tmp_path: Path) -> None:
    sink = Failing(tmp_path / "a", "frame", OSError(errno.ENOSPC, "No space left on device"))
    summary = run(model, [live_clip(*SMALL, *SMALL)], [sink], RunOptions(live="all"))
    assert summary.frames == 2
    assert summary.exit_status == 1


def test_a_file_of_a_clip_that_fails_ends_alone(model: Model, tmp_path: Path) -> None:
    """The second of three files of a stream."""
    full = OSError(errno.ENOSPC, "No space left on device")
    clip = live_clip(*SMALL, *LARGE, *SMALL)

    def make(path: Path) -> FileSink:
        return Failing(path, "end" if path.stem == "a-2" else "", full)

    sinks: list[Sink] = [PartFiles(tmp_path / "a.bin", clip.video_id, make)]
    summary = run(model, [clip], sinks, RunOptions(live="all"))
    # a-2 is free again when the third begins.
    assert names(tmp_path) == ["a-3.bin", "a.bin"]
    assert [each.reason for each in summary.failed_outputs] == [
        f"cannot write '{tmp_path / 'a-2.bin'}': no space left on device"
    ]


def test_a_full_disk_ends_what_is_on_it(lite_bundle: Path, tmp_path: Path, visolo: Visolo) -> None:
    source = write_video(tmp_path / "in.mp4", frames=24, height=240, width=400)
    if not can_mount():
        pytest.skip(NEEDS_MOUNT)
    (tmp_path / "disk").mkdir()
    with small_disk(tmp_path / "disk", 16) as disk:
        outcome = visolo(
            "run", lite_bundle, source, "--results", tmp_path / "r.json", "--frames",
            disk / "f.jsonl", "--video", disk / "v.mp4", "--json",
        )  # fmt: skip
        assert outcome.status == 1
        reasons = {each["name"]: each["reason"] for each in outcome.json()["failed_outputs"]}
        for path, sentence in reasons.items():
            assert sentence == f"cannot write '{path}': no space left on device"
        assert str(disk / "v.mp4") in reasons
        assert set(names(disk)) == {"f.jsonl", "v.mp4"} - {Path(path).name for path in reasons}
    assert outcome.json()["frames"] == 24
    assert json.loads((tmp_path / "r.json").read_text())


def test_the_reader_of_a_fifo_leaves(lite_bundle: Path, tmp_path: Path, visolo: Visolo) -> None:
    folder, fifo = write_folder(tmp_path / "frames", frames=6), tmp_path / "fifo"
    os.mkfifo(fifo)

    def read() -> None:
        with fifo.open() as file:
            file.readline()

    reader = threading.Thread(target=read)
    reader.start()
    outcome = visolo(
        "run", lite_bundle, folder, "--frames", fifo, "--results", tmp_path / "r.json", "--json"
    )
    ended(reader)
    assert outcome.status == 1
    assert f"visolo: cannot write '{fifo}': broken pipe" in outcome.err.splitlines()
    assert outcome.json()["frames"] == 6
    assert json.loads((tmp_path / "r.json").read_text())


# --------------------------------------------------------------------------------- processes


def visolo_process(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "visolo.cli", *map(str, arguments)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **options)


def test_head_ends_a_run_quietly(lite_bundle: Path, tmp_path: Path) -> None:
    source, results = write_video(tmp_path / "in.mp4", frames=100), tmp_path / "r.json"
    with visolo_process(
        "run", lite_bundle, source, "--frames", "-", "--results", results, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        process.stdout = None
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (141, "")
    lengths = {len(each["segmentations"]) for each in json.loads(results.read_text())}
    assert len(lengths) == 1
    assert 1 <= lengths.pop() < 100


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals(lite_bundle: Path, tmp_path: Path, number: signal.Signals) -> None:
    """The first lets the run commit what is there. The second, which comes while the results wait
    for the reader of a FIFO, ends it at once, and nothing hidden stays."""
    out, fifo, spool = tmp_path / "out", tmp_path / "fifo", tmp_path / "spool"
    out.mkdir()
    spool.mkdir()
    os.mkfifo(fifo)
    video = write_video(tmp_path / "in.mp4", frames=100)
    for results in (out / "r.json", fifo):
        with visolo_process(
            "run", lite_bundle, video, "--frames", "-", "--video", out / "v.mp4",
            "--results", results, stdout=subprocess.PIPE, env={**os.environ, "TMPDIR": str(spool)},
        ) as process:  # fmt: skip
            assert process.stdout is not None
            process.stdout.readline()
            process.send_signal(number)
            if results == fifo:
                wait_for((out / "v.mp4").exists)
                assert process.poll() is None
                process.send_signal(number)
            _, errors = process.communicate(timeout=60)
        assert process.returncode == 128 + number, errors
        assert "Traceback" not in errors
        assert list(spool.glob("*visolo*")) == []
        assert names(out) == (["v.mp4"] if results == fifo else ["r.json", "v.mp4"])
        assert 1 <= frames_in(out / "v.mp4") < 100
        for path in out.iterdir():
            path.unlink()


def test_the_next_run_removes_what_a_killed_one_left(
    lite_bundle: Path, tmp_path: Path, visolo: Visolo
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    video, folder = write_video(tmp_path / "in.mp4", frames=100), write_folder(tmp_path / "frames")
    outputs = ("--video", out / "v.mp4", "--results", out / "r.json")
    with visolo_process(
        "run", lite_bundle, video, "--frames", "-", *outputs, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert len(names(out)) == 2
        visolo("run", lite_bundle, folder, *outputs).succeeded()  # beside one that is alive
        assert len(names(out)) == 4
        process.kill()
        process.communicate(timeout=60)
    assert len(names(out)) == 4
    (out / ".v-visolo-mine.mp4").touch()  # of the user
    visolo("run", lite_bundle, folder, *outputs).succeeded()
    assert names(out) == [".v-visolo-mine.mp4", "r.json", "v.mp4"]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)
