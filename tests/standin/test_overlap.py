"""Runs over pycuda and the stand-in driver: the device is at the next frame while the host follows
this one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from standin.stand_in import CHANCE, EAGER, LAZY, StandIn
from visolo_core.instances import Instances
from visolo_core.results import Track
from visolo_runtime.engines.engine import Engines
from visolo_runtime.runner import RunOptions, run
from visolo_runtime.session.loading import Model
from visolo_runtime.sinks.frame_lines import FrameLinesFile
from visolo_runtime.sinks.results_file import ResultsFile
from visolo_runtime.video.sample_clip import sample_frames
from watched_runs import Frame, WatchedClip, Watcher, agree

pytestmark = pytest.mark.standin
OpenEngines = Callable[..., Engines]
FRAMES = list(sample_frames(6, 64, 96))
VIDEOS: dict[str, list[Frame]] = {
    "forwards": FRAMES,
    "backwards": FRAMES[::-1],
    "short": FRAMES[2:4],
    "mirrored": [np.ascontiguousarray(frame[:, ::-1]) for frame in FRAMES],
    "one": FRAMES[:1],
}
DEVICE_LOST = 719


@pytest.fixture(scope="module")
def alone(model: Model) -> dict[str, tuple[list[Instances], list[Track]]]:
    """What each video yields on the CPU."""
    results = {}
    for name, frames in VIDEOS.items():
        session = model.session()
        results[name] = [session.step(frame) for frame in frames], session.finish()
    return results


@pytest.mark.parametrize("seed", range(50))
def test_runs_whatever_is_done_when(
    driver: StandIn, open_engines: OpenEngines, model: Model,
    alone: dict[str, tuple[list[Instances], list[Track]]], seed: int,
) -> None:  # fmt: skip
    """Whether or not the next frames are at hand when these are computed, which differs from run to
    run as well."""
    driver.reset(CHANCE, seed)
    clips = [WatchedClip(frames, name).clip for name, frames in VIDEOS.items()]
    watcher = Watcher()
    options = RunOptions(record=True, streams=1 + seed % 3)
    run(replace(model, engines=open_engines()), clips, [watcher], options)
    for name, (instances, tracks) in alone.items():
        agree(watcher.instances[name], instances)
        assert watcher.tracks[name] == tracks


@pytest.mark.parametrize("mode", [LAZY, EAGER])
def test_the_next_frame_is_launched_before_this_one_is_followed(
    driver: StandIn, open_engines: OpenEngines, model: Model,
    alone: dict[str, tuple[list[Instances], list[Track]]], monkeypatch: pytest.MonkeyPatch,
    mode: int,
) -> None:  # fmt: skip
    driver.reset(mode)
    on_gpu = replace(model, engines=open_engines())
    source, watcher = WatchedClip(FRAMES, "forwards"), Watcher()
    watcher.watch(monkeypatch, source)
    run(on_gpu, [source.clip], [watcher], RunOptions())
    order = [watcher.events.index(f"{what} 1") for what in ("submit", "follow", "result")]
    assert watcher.events.index("submit 2") < order[1]
    assert order == sorted(order)
    agree(watcher.instances["forwards"], alone["forwards"][0])


def test_a_device_that_fails_in_mid_run(
    driver: StandIn, open_engines: OpenEngines, model: Model, tmp_path: Path,
    alone: dict[str, tuple[list[Instances], list[Track]]], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The run ends with a sentence. What was computed is passed on and written."""
    on_gpu = replace(model, engines=open_engines())
    source, watcher = WatchedClip(FRAMES, "forwards"), Watcher()
    watcher.watch(monkeypatch, source)
    driver.fail("cuEventSynchronize", 4, DEVICE_LOST)
    out = tmp_path / "out"
    out.mkdir()
    sinks = [
        watcher,
        ResultsFile(out / "results.json", model.labels),
        FrameLinesFile(out / "frames.jsonl"),
    ]
    summary = run(on_gpu, [source.clip], sinks, RunOptions(record=True))
    (failure,) = summary.failed
    assert "CUDA: cuEventSynchronize failed with 719" in failure.reason
    agree(watcher.instances["forwards"], alone["forwards"][0][:3])
    assert (watcher.outcome, summary.exit_status) == ("committed", 1)
    assert len((out / "frames.jsonl").read_text().splitlines()) == 3
    assert sorted(path.name for path in out.iterdir()) == ["frames.jsonl", "results.json"]
