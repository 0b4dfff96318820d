"""Several streams through one set of engines: each yields what it would yield alone."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from alone import alone, same
from clips import data_set, write_folder, write_video
from helpers import Outcome, ended, tracks_of_results
from visolo_core.errors import VisoloError
from visolo_core.instances import Instances
from visolo_core.results import Track
from visolo_export.comparison import compare_tracks
from visolo_runtime.engines.blas import one_thread
from visolo_runtime.runner import RunOptions, run
from visolo_runtime.session.loading import Model, load
from visolo_runtime.session.streams import Streams, neighbours
from visolo_runtime.sources.clip import Clip, Skipped, at_constant_rate
from visolo_runtime.sources.opening import open_sources
from visolo_runtime.video.sample_clip import sample_frames

Frame = NDArray[np.uint8]
Visolo = Callable[..., Outcome]


@pytest.fixture(scope="module")
def videos() -> list[list[Frame]]:
    frames = list(sample_frames(9, 96, 160))
    return [frames, frames[::-1], [np.ascontiguousarray(f[:, ::-1]) for f in frames], frames[2:]]


def interleave(model: Model, videos: list[list[Frame]], seed: int) -> list[list[Instances]]:
    """Run streams that each have a frame in most steps."""
    chance = np.random.default_rng(seed)
    results: list[list[Instances]] = [[] for _ in videos]
    with Streams(model, [None] * len(videos)) as streams:
        while any(len(done) < len(video) for done, video in zip(results, videos, strict=True)):
            ready = {
                stream: video[len(done)]
                for stream, (done, video) in enumerate(zip(results, videos, strict=True))
                if len(done) < len(video) and chance.random() < 0.8
            }
            for stream, instances in streams.step(ready).items():
                results[stream].append(instances)
    return results


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino", "torchscript", "pt2"])
def test_together_as_alone(batched_bundle: Path, videos: list[list[Frame]], backend: str) -> None:
    if backend == "openvino":
        pytest.importorskip("openvino", reason="install visolo[openvino]")
    model = load(batched_bundle, backend)
    expected = [alone(model, video) for video in videos]
    assert sum(len(each.instances) for each in expected[0]) > 10  # or nothing is tested
    for mine, its in zip(expected, interleave(model, videos, seed=5), strict=True):
        for first, other in zip(mine, its, strict=True):
            same(first, other)


def test_a_model_for_one_stream_runs_several_in_turn(
    lite_bundle: Path, videos: list[list[Frame]]
) -> None:
    model = load(lite_bundle)
    expected = alone(model, videos[1])
    for first, other in zip(expected, interleave(model, videos[:2], seed=1)[1], strict=True):
        same(first, other)


def test_neighbours_go_through_the_graphs_in_one_call(
    batched_bundle: Path, videos: list[list[Frame]], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(batched_bundle, "onnxruntime")
    with Streams(model, [None] * 4) as streams:
        buffers, calls = streams._buffers, []
        submit = buffers.submit

        def counted(rows: range, inputs: Any) -> None:
            calls.append((rows.start, len(inputs)))
            submit(rows, inputs)

        monkeypatch.setattr(buffers, "submit", counted)
        streams.step({stream: videos[stream][0] for stream in (0, 1, 2, 3)})
        streams.step({stream: videos[stream][1] for stream in (0, 2, 3)})
    assert calls == [(0, 3), (3, 1), (0, 1), (2, 2)]


def test_a_restarted_stream_remembers_nothing(
    batched_bundle: Path, videos: list[list[Frame]]
) -> None:
    model = load(batched_bundle, "onnxruntime")
    whole = alone(model, videos[1])
    with Streams(model, [None, None]) as streams:
        for frame in videos[0]:
            streams.step({0: frame, 1: frame})
        streams.restart(1)
        for expected, frame in zip(whole, videos[1], strict=True):
            same(expected, streams.step({1: frame, 0: videos[0][0]})[1])


def test_stages_of_a_shared_call_are_shared(
    batched_bundle: Path, videos: list[list[Frame]]
) -> None:
    with Streams(load(batched_bundle, "onnxruntime"), [None] * 3) as streams:
        begin = time.perf_counter()
        streams.step({stream: videos[stream][0] for stream in range(3)})
        spent = (time.perf_counter() - begin) * 1e3
        graph = [session.stage_ms["frame graph"] for session in streams.sessions]
    assert len(set(graph)) == 1
    assert 0 < sum(graph) < spent


@given(st.sets(st.integers(0, 30)), st.integers(1, 5))
def test_runs_of_neighbours(streams: set[int], most: int) -> None:
    runs = list(neighbours(sorted(streams), most))
    assert [stream for each in runs for stream in each] == sorted(streams)
    assert all(1 <= len(each) <= most for each in runs)


def test_a_bundle_says_how_many_go_together(batched_bundle: Path, visolo: Visolo) -> None:
    assert visolo("info", batched_bundle, "--json").succeeded().json()["batch"] == 3


# ------------------------------------------------------------------------------- the run


def tracks_by_video(results: Path) -> dict[int, list[Track]]:
    entries = json.loads(results.read_text())
    return {
        video: tracks_of_results([entry for entry in entries if entry["video_id"] == video])
        for video in {entry["video_id"] for entry in entries}
    }


@pytest.mark.parametrize("streams", [1, 3])
def test_a_data_set_side_by_side_gives_the_same_results(
    batched_bundle: Path, tmp_path: Path, visolo: Visolo, streams: int
) -> None:
    listed = [
        {"id": 4 + part, "height": 48, "width": 64, "file_names": [f"one/{n}.png" for n in frames]}
        for part, frames in enumerate([(0, 1, 2), (2, 1), (0, 0, 1, 2), (1,)])
    ]
    data_set(tmp_path)
    source = data_set(tmp_path, listed)
    alone, together = tmp_path / "alone.json", tmp_path / "together.json"
    videos = tmp_path / "videos"
    common = ("run", batched_bundle, source, "--backend", "onnxruntime")
    visolo(*common, "--results", alone).succeeded()
    visolo(*common, "--results", together, "--streams", streams, "--video", videos).succeeded()

    first, other = (tracks_by_video(path) for path in (alone, together))
    assert set(first) == set(other) == {4, 5, 6, 7}
    for video, tracks in first.items():
        compared = compare_tracks(tracks, other[video])
        assert compared.same_tracks
        # Several pictures in one call may be added up in another order than one.
        assert (compared.max_score_difference or 0) < 1e-4
        assert compared.min_mask_iou in (1, None)
    assert len(list(videos.glob("*.mp4"))) == 4


def test_several_sources(batched_bundle: Path, tmp_path: Path, visolo: Visolo) -> None:
    film = write_video(tmp_path / "film.mp4", frames=6, height=96, width=160)
    pictures = write_folder(tmp_path / "pictures", frames=9, size=(80, 120))
    lines = tmp_path / "lines.jsonl"
    summary = visolo(
        "run", batched_bundle, film, pictures, "--backend", "onnxruntime", "--frames", lines,
        "--json",
    ).succeeded().json()  # fmt: skip
    assert summary["frames"] == 15
    counts = {each["name"]: each for each in summary["streams"]}
    assert {name: each["frames"] for name, each in counts.items()} == {"film": 6, "pictures": 9}
    assert all(each["dropped"] == 0 < each["latency_ms"] for each in counts.values())
    written = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [line["frame"] for line in written if line["video_id"] == 1] == list(range(6))
    assert [line["frame"] for line in written if line["video_id"] == 2] == list(range(9))


def test_clips_of_several_sources_have_numbers_of_their_own(tmp_path: Path) -> None:
    folders = [write_folder(tmp_path / name, frames=1, size=(8, 8)) for name in "ab"]
    clips = open_sources([str(folder) for folder in folders])
    assert [(clip.video_id, clip.name) for clip in clips] == [(1, "a"), (2, "b")]


def test_a_slow_live_source_does_not_hold_up_a_quick_one(lite_bundle: Path) -> None:
    """Each is run as its frames come; what a live source loses keeps its place in the video."""

    def camera(count: int, pause: float) -> Callable[[], Iterator[Frame | Skipped]]:
        def frames() -> Iterator[Frame | Skipped]:
            for frame in sample_frames(count, 96, 160):
                time.sleep(pause)
                yield frame

        return frames

    slow = Clip(1, "slow", lambda: at_constant_rate(camera(3, 0.25)()), live=True)
    quick = Clip(2, "quick", lambda: at_constant_rate(camera(12, 0.03)()), live=True)
    order = []
    model = load(lite_bundle)
    run(
        model, [slow, quick], [], RunOptions(streams=2),
        progress=lambda clip, position, _: order.append(clip.name),
    )  # fmt: skip
    assert order.count("quick") >= 6
    assert order.index("slow") >= 2  # the quick one did not wait


def test_drops_are_counted_and_keep_their_place(lite_bundle: Path) -> None:
    model = load(lite_bundle)

    def burst() -> Iterator[Frame | Skipped]:
        yield from sample_frames(20, 96, 160)

    clip = Clip(1, "burst", lambda: at_constant_rate(burst()), live=True)
    positions = []
    summary = run(
        model, [clip], [], RunOptions(), progress=lambda _, position, __: positions.append(position)
    )
    (counts,) = summary.streams
    assert counts.frames + counts.dropped == 20
    assert counts.dropped > 0
    assert positions[-1] == 20
    every = run(model, [clip], [], RunOptions(live="all"))
    assert (every.streams[0].frames, every.streams[0].dropped) == (20, 0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(("--live", "some"), "choose from all, latest"), (("nowhere.mp4",), "nowhere.mp4")],
)
def test_what_is_refused(
    lite_bundle: Path, tmp_path: Path, visolo: Visolo, arguments: tuple[str, ...], words: str
) -> None:
    film = write_video(tmp_path / "film.mp4", frames=2, height=96, width=160)
    visolo("run", lite_bundle, film, *arguments).refused(words)


# ------------------------------------------------------------------------------ one thread


def test_numpys_threads_come_back_after_the_last_block() -> None:
    from threadpoolctl import threadpool_info

    def threads() -> list[int]:
        """Of NumPy's own library; others bring theirs later."""
        libraries = [each for each in threadpool_info() if each["user_api"] == "blas"]
        return [each["num_threads"] for each in libraries if "numpy" in each["filepath"]]

    before = threads()
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with one_thread():
            inside.set()
            leave.wait(5)

    thread = threading.Thread(target=other)
    with one_thread():
        thread.start()
        inside.wait(5)
        assert set(threads()) == {1}
    assert set(threads()) == {1}  # the other is still in
    leave.set()
    ended(thread)
    assert threads() == before
    with one_thread():  # in a thread that has not set it before
        assert set(threads()) == {1}
    assert threads() == before


def test_no_streams_at_all(lite_bundle: Path) -> None:
    with pytest.raises(VisoloError, match="no size was given"):
        Streams(load(lite_bundle), [])


def test_many_streams_of_one_model_can_be_replaced(lite_bundle: Path) -> None:
    """Sizes of masks belong to the stream that is begun."""
    model = load(lite_bundle)
    frame = next(iter(sample_frames(1, 96, 160)))
    with Streams(model, [(10, 20), None]) as streams:
        instances = streams.step({0: frame, 1: frame})
        assert (instances[0].size, instances[1].size) == ((10, 20), (96, 160))
        streams.restart(0, (30, 40))
        assert streams.step({0: frame})[0].size == (30, 40)
