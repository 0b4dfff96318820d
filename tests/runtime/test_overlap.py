"""A run on a GPU, where the next frame is computed while the host follows this one."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path

import pytest

from fake_gpu import FakeDevice
from helpers import LIMIT_S
from visolo_core.errors import VisoloError
from visolo_core.instances import Instances
from visolo_core.results import Track
from visolo_runtime.engines.engine import Engines
from visolo_runtime.runner import RunOptions, run
from visolo_runtime.session.loading import Model, load
from visolo_runtime.session.streams import Streams
from visolo_runtime.sources.clip import Skipped
from visolo_runtime.video.sample_clip import sample_frames
from watched_runs import Frame, WatchedClip, Watcher, agree

pytestmark = pytest.mark.timeout(2 * LIMIT_S, func_only=True)
"""What waits for ever is shown with the stacks of all threads."""


FRAMES = list(sample_frames(6, 96, 160))


@pytest.fixture
def model(engines: Engines, lite_bundle: Path) -> Model:
    """On the GPU."""
    return replace(load(lite_bundle, "onnxruntime", threads=1), engines=engines)


@pytest.fixture
def alone(model: Model) -> tuple[list[Instances], list[Track]]:
    """What a session yields."""
    return by_itself(model, FRAMES)


def by_itself(model: Model, frames: list[Frame]) -> tuple[list[Instances], list[Track]]:
    session = model.session()
    return [session.step(frame) for frame in frames], session.finish()


@pytest.fixture
def watcher() -> Watcher:
    return Watcher()


def overlapping(frames: int) -> list[str]:
    """Each frame is launched before the one ahead of it is followed, and passed on at once."""
    events = ["submit 0"]
    for number in range(frames):
        if number + 1 < frames:
            events.append(f"submit {number + 1}")
        events += [f"follow {number}", f"result {number}"]
    return [*events, "end"]


def test_the_next_frame_is_launched_before_this_one_is_followed(
    model: Model, alone: tuple[list[Instances], list[Track]], watcher: Watcher,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    source = WatchedClip(FRAMES)
    watcher.watch(monkeypatch, source)
    summary = run(model, [source.clip], [watcher], RunOptions(record=True))
    assert watcher.events == overlapping(len(FRAMES))
    agree(watcher.instances["clip"], alone[0])
    assert watcher.tracks["clip"] == alone[1]
    assert (summary.frames, watcher.outcome) == (len(FRAMES), "committed")


def test_a_frame_does_not_wait_for_the_next(
    model: Model, alone: tuple[list[Instances], list[Track]], watcher: Watcher,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Of a camera, whose next frame comes when this one's results are out."""
    source = WatchedClip(FRAMES, live=True)
    source.hold()
    source.let_come(0)
    watcher.watch(monkeypatch)
    run(
        model, [source.clip], [watcher], RunOptions(),
        progress=lambda clip, position, _: source.let_come(position),
    )  # fmt: skip
    assert watcher.events == [
        *(f"{what} {at}" for at in range(len(FRAMES)) for what in ("submit", "follow", "result")),
        "end",
    ]
    agree(watcher.instances["clip"], alone[0])


def test_nothing_overlaps_on_a_cpu(lite_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step is begun when the one before has been followed: its results would come later."""
    model = load(lite_bundle, "onnxruntime", threads=1)
    events = []
    begin = Streams.begin

    def begun(streams: Streams, *arguments: object) -> object:
        events.append("begin")
        return begin(streams, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Streams, "begin", begun)
    run(
        model, [WatchedClip(FRAMES).clip], [], RunOptions(),
        progress=lambda clip, position, _: events.append("result"),
    )  # fmt: skip
    steps = "".join(event[0] for event in events)
    assert "bb" not in steps.rstrip("b")
    assert steps.count("r") == len(FRAMES)


def test_an_interrupt_leaves_what_was_launched(
    model: Model, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At Ctrl-C the frame that the GPU is at is part of the results, and no further one is."""
    source, expected = WatchedClip(FRAMES), by_itself(model, FRAMES[:4])
    watcher.watch(monkeypatch, source)

    def interrupt(clip: object, position: int, summary: object) -> None:
        if position == 3:
            signal.raise_signal(signal.SIGINT)

    summary = run(model, [source.clip], [watcher], RunOptions(record=True), progress=interrupt)
    assert summary.interrupted
    assert watcher.events[-4:] == ["result 2", "follow 3", "result 3", "end"]
    agree(watcher.instances["clip"], expected[0])
    assert watcher.tracks["clip"] == expected[1]
    assert watcher.outcome == "committed"


def test_no_frame_more_than_were_asked_for(
    model: Model, alone: tuple[list[Instances], list[Track]], watcher: Watcher,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    source = WatchedClip(FRAMES)
    watcher.watch(monkeypatch, source)
    run(model, [source.clip], [watcher], RunOptions(max_frames=3))
    assert watcher.events == overlapping(3)
    agree(watcher.instances["clip"], alone[0][:3])


@pytest.mark.parametrize(
    ("last", "words"),
    [
        (VisoloError("the camera is gone"), "the camera is gone"),
        (FRAMES[0][:50], "frame 3 is 160x50"),
    ],
)
def test_what_is_wrong_with_the_next_frame_does_not_lose_this_one(
    model: Model, alone: tuple[list[Instances], list[Track]], watcher: Watcher,
    monkeypatch: pytest.MonkeyPatch, last: Frame | Exception, words: str,
) -> None:  # fmt: skip
    source = WatchedClip([*FRAMES[:3], last])
    watcher.watch(monkeypatch, source)
    summary = run(model, [source.clip], [watcher], RunOptions())
    (failure,) = summary.failed
    assert words in failure.reason
    assert "ends after 3 frames" in failure.reason
    agree(watcher.instances["clip"], alone[0][:3])
    assert (watcher.outcome, summary.exit_status) == ("committed", 1)


def test_a_frame_that_cannot_be_read_is_reported_in_its_place(
    model: Model, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Skipped("damaged data")
    source = WatchedClip([broken, FRAMES[0], broken, FRAMES[1], FRAMES[2], broken])
    watcher.watch(monkeypatch)
    positions: list[int] = []
    run(
        model, [source.clip], [watcher], RunOptions(),
        progress=lambda clip, position, _: positions.append(position),
    )  # fmt: skip
    passed_on = [event for event in watcher.events if event.split()[0] in ("result", "skipped")]
    assert passed_on == [
        "skipped 0", "result 1", "skipped 2", "result 3", "result 4", "skipped 5",
    ]  # fmt: skip
    assert positions == [1, 2, 3, 4, 5, 6]


def test_several_clips_one_after_the_other(
    model: Model, device: FakeDevice, watcher: Watcher
) -> None:
    """A stream begins its next clip when the last frame of the one before was passed on."""
    videos = {"first": FRAMES[:3], "second": FRAMES[::-1], "third": FRAMES[:1]}
    clips = [WatchedClip(frames, name).clip for name, frames in videos.items()]
    run(model, clips, [watcher], RunOptions(record=True, streams=2))
    for name, frames in videos.items():
        expected, tracks = by_itself(model, frames)
        agree(watcher.instances[name], expected)
        assert watcher.tracks[name] == tracks
