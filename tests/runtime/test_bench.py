"""``visolo bench``."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from helpers import run_visolo
from visolo_runtime.bench import ALL_STAGES, Entrant, GpuMeter, Measured, Plan, Round, measure
from visolo_runtime.models.shipped import shipped_model
from visolo_runtime.session.loading import load
from visolo_runtime.video.sample_clip import sample_frames

SHORT = ("--frames", 6, "--warm-up", 2, "--rounds", 2)


def test_two_models_take_turns(lite_bundle: Path) -> None:
    model = load(lite_bundle, "onnxruntime")
    turns: list[tuple[str, int]] = []
    measured = measure(
        [Entrant("A", model), Entrant("B", model)],
        lambda: sample_frames(5, 96, 160),
        Plan(frames=3, warm_up=2, rounds=2),
        lambda name, number: turns.append((name, number)),
    )
    assert turns == [("A", 0), ("B", 0), ("B", 1), ("A", 1)]
    assert [len(each.total) for one in measured for each in one.rounds] == [3, 3, 3, 3]


def test_stages_add_up(lite_bundle: Path) -> None:
    command = ("bench", lite_bundle, "--backend", "onnxruntime", *SHORT, "--json")
    report = run_visolo(*command).succeeded().json()
    (model,) = report["models"]
    assert set(model["stage_ms"]) == set(ALL_STAGES)
    mean = 1e3 / model["fps"]
    assert sum(model["stage_ms"].values()) == pytest.approx(mean, rel=0.3)
    assert model["p50_ms"] <= model["p90_ms"] <= model["p99_ms"]
    assert len(model["frame_ms"]) == 6
    assert model["resident_mb"] > 10
    assert report["ratio"] is None
    assert report["passed"] is None


def test_pairs_and_a_picture(lite_bundle: Path, tmp_path: Path) -> None:
    picture = tmp_path / "bench.png"
    command = ("bench", lite_bundle, "--backend", "onnxruntime", "--against", lite_bundle)
    outcome = run_visolo(*command, *SHORT, "--picture", picture).succeeded()
    assert "times as fast as B (by rounds:" in outcome.out
    with Image.open(picture) as opened:
        assert opened.width > 500


def test_frames_in_which_nothing_is_found() -> None:
    """Neither the mask graph nor the decode graph runs."""
    command = ("bench", shipped_model(), "--frames", 3, "--warm-up", 1, "--rounds", 1, "--idle")
    (measured,) = run_visolo(*command, "--json").succeeded().json()["models"]
    assert measured["instances_a_frame"] == 0
    assert measured["stage_ms"]["mask graph"] == measured["stage_ms"]["decode graph"] == 0
    assert measured["stage_ms"]["frame graph"] > 0
    run_visolo(*command, "--rounds", 1, "x.mp4").refused("--idle measures black frames")


def test_a_target_is_met_or_not(lite_bundle: Path) -> None:
    command = ("bench", lite_bundle, "--backend", "onnxruntime", *SHORT, "--target-fps")
    assert "passed" in run_visolo(*command, 0.001).succeeded().out
    missed = run_visolo(*command, 1e9)
    assert missed.status == 1
    assert "FAILED" in missed.out


def test_a_source_is_read_again_every_round(lite_bundle: Path, tmp_path: Path) -> None:
    for number, frame in enumerate(sample_frames(4, 96, 160)):
        Image.fromarray(frame).save(tmp_path / f"{number}.png")
    command = ("bench", lite_bundle, tmp_path, "--backend", "onnxruntime", "--json", "--rounds", 2)
    report = run_visolo(*command, "--warm-up", 1).succeeded().json()
    assert len(report["models"][0]["frame_ms"]) == 3
    assert report["models"][0]["stage_ms"]["read"] > 0
    run_visolo(*command, "--warm-up", 4).refused("no frame left after 4")


def test_frames_read_and_resized_ahead(lite_bundle: Path) -> None:
    """What a thread does is not part of the step, and the instances are the same."""
    command = ("bench", lite_bundle, "--backend", "onnxruntime", *SHORT, "--json")
    inline, ahead = (run_visolo(*command, *more).succeeded().json() for more in ((), ("--ahead",)))
    assert (inline["ahead"], ahead["ahead"]) == (False, True)
    first, other = (report["models"][0] for report in (inline, ahead))
    assert first["stage_ms"]["resize"] > 5 * other["stage_ms"]["resize"]
    assert 0 < other["host_share"] < 1
    assert first["instances_a_frame"] == other["instances_a_frame"]


def test_a_picture_needs_its_folder(lite_bundle: Path, tmp_path: Path) -> None:
    command = ("bench", lite_bundle, "--picture", tmp_path / "none" / "p.png")
    run_visolo(*command).refused("its folder does not exist")


def test_the_figures_of_rounds() -> None:
    rounds = [Round(total=[10.0, 20.0]), Round(total=[30.0, 40.0, 50.0]), Round(total=[20.0, 20.0])]
    measured = Measured("A", "", "fp32", rounds)
    assert measured.fps == pytest.approx(50)
    assert measured.by_position() == [20.0, 20.0]
    assert measured.percentile(50) == 20


def test_the_hosts_share_is_of_the_step_alone() -> None:
    """Reading and bringing masks to the source's size are outside; copies to a GPU are not host."""
    stages = dict.fromkeys(ALL_STAGES, 0.0)
    stages |= {"read": 50.0, "masks": 50.0, "frame graph": 7.0, "mask graph": 1.0, "select": 2.0}
    measured_round = Round(total=[110.0], stages={stage: [ms] for stage, ms in stages.items()})
    assert Measured("A", "", "fp32", [measured_round]).host_share() == pytest.approx(0.2)


def test_energy_is_read_in_joules() -> None:
    class Library:
        def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
            return f"gpu {index}"

        def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
            assert handle == "gpu 0"
            return 2500

    assert GpuMeter(Library()).joules() == 2.5
