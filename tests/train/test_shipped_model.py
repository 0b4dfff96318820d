"""The models in the package do what their cards say."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import visolo
from benchmarks.real_things import score_stills, score_videos
from clips import write_video
from helpers import run_visolo
from outside import real_data
from visolo_core.categories import EVERYDAY
from visolo_runtime.models.shipped import SHIPPED, shipped_model, shipped_weights
from visolo_runtime.runner import RunOptions, run
from visolo_runtime.session.loading import load
from visolo_runtime.session.session import Session
from visolo_runtime.video.sample_clip import sample_frames
from visolo_train.data.drawn_data import drawn_data
from visolo_train.evaluation.scoring import TrackCollector, score_tracks

ROOT = Path(__file__).parents[2]
LIMIT = 10 * 2**20


def test_it_is_small() -> None:
    folder = shipped_model().parent
    files = [path for path in folder.rglob("*") if path.is_file()]
    named = {"MODEL_CARD.md", "lite.safetensors", "EVERYDAY_CARD.md", "everyday.safetensors"}
    assert named <= {path.name for path in files}
    assert max(path.stat().st_size for path in files) < LIMIT


def test_it_finds_drawn_shapes() -> None:
    """On videos that it was not trained on. Twenty are few, so the bar is well below its 0.6."""
    annotations, clips = drawn_data(5, 20, 16, (192, 336))
    model = load(shipped_model())
    collector = TrackCollector(model.labels)
    run(model, clips, [collector], RunOptions(record=True))
    figures = score_tracks(annotations, collector.tracks).figures
    assert figures["AP"] > 0.45
    assert figures["AP50"] > 0.65


@pytest.mark.parametrize("name", SHIPPED)
def test_the_bundle_is_made_of_the_weights(name: str, tmp_path: Path) -> None:
    weights = shipped_weights(name)
    bundle = shutil.copytree(shipped_model(name), tmp_path / "m.visolo")  # verify writes into it
    run_visolo("verify", bundle, "--reference", weights, "--frames", "4").succeeded()


def test_commands_take_them_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever lies in the working directory; a path of that name begins with a dot."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "everyday").mkdir()
    for name in SHIPPED:
        assert run_visolo("info", name, "--json").succeeded().json()["path"].endswith(".visolo")
    assert visolo.load("everyday").labels == EVERYDAY
    outcome = run_visolo("info", "./everyday")
    assert (outcome.status, "manifest.json" in outcome.err) == (2, True)
    outcome = run_visolo("run", "nothing", "video.mp4")
    assert outcome.status == 2


def test_int8_is_close() -> None:
    """Scores of cells, on a drawn video: real ones are not among the tests."""
    scores = []
    for precision in ("fp32", "int8"):
        model = load("everyday", "onnxruntime", precision=precision)
        buffers = model.engines.buffers()
        session = Session(buffers, model.stream_options(record=False))
        for frame in sample_frames(6, 96, 160):
            session.step(frame)
        scores.append(buffers.read("scores").copy())
    difference = np.abs(scores[0] - scores[1])
    assert 0 < difference.max() < 0.1
    assert difference.mean() < 0.01


def test_the_demo_shows_a_video(tmp_path: Path) -> None:
    source = write_video(tmp_path / "video.mp4", frames=6)
    folder = tmp_path / "demo"
    outcome = run_visolo("demo", "-o", folder, "--source", source, "--frames", "4").succeeded()
    assert " FPS" in outcome.out
    assert "AP" not in outcome.out
    assert len((folder / "frames.jsonl").read_text().splitlines()) == 4
    missing = run_visolo("demo", "-o", tmp_path / "new", "--source", tmp_path / "none.mp4")
    assert missing.status == 2
    assert not (tmp_path / "new").exists()


def test_the_demo_shows_it(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    outcome = run_visolo("demo", "-o", folder, "--frames", "8", "--videos", "2").succeeded()
    assert "AP " in outcome.out
    assert " FPS" in outcome.out
    assert (folder / "annotated.mp4").stat().st_size > 1000
    results = json.loads((folder / "results.json").read_text())
    assert {len(track["segmentations"]) for track in results} == {8}


@pytest.mark.slow
def test_it_keeps_what_the_card_says() -> None:
    """On the frozen benchmark, which it was never trained on."""
    data = real_data("shapes-val/instances.json")
    figures = run_visolo("eval", shipped_model(), "--data", data, "--json").succeeded().json()
    assert figures["AP"] >= 0.64
    assert figures["AP50"] >= 0.84


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_everyday_keeps_what_its_card_says(precision: str) -> None:
    model = load("everyday", precision=precision)
    videos = score_videos(model, real_data("real-vis/instances.json"), None)
    assert videos["mean_overlap"] >= 0.67
    assert videos["found"] >= 0.8
    assert videos["ap50"] >= 0.9
    assert videos["strays_per_complete_video"] <= 0.54  # one more than on the card
    stills = score_stills(model, real_data("real-stills/instances.json"), None, 0.05)
    assert stills["AP50"] >= 0.91
