"""``visolo run`` from the outside: its files, its warnings, its ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from clips import data_set, write_folder, write_video
from helpers import Outcome
from visolo_core.masks import decode_rle

Visolo = Callable[..., Outcome]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def decode_video(path: Path) -> list[Any]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_all_outputs_of_a_video(lite_bundle: Path, tmp_path: Path, visolo: Visolo) -> None:
    source = write_video(tmp_path / "in.mp4", frames=8, height=120, width=200)
    results, frames, video = (tmp_path / name for name in ("r.json", "f.jsonl", "v.mp4"))
    summary = visolo(
        "run", lite_bundle, source, "--results", results, "--frames", frames, "--video", video,
        "--json", "--backend", "onnxruntime",
    ).succeeded().json()  # fmt: skip
    assert summary["frames"] == 8
    assert summary["skipped"] == 0
    assert summary["fps"] > 0
    assert "ONNX Runtime" in summary["backend"]

    entries = json.loads(results.read_text())
    assert len(entries) == summary["tracks"] > 0
    for entry in entries:
        assert set(entry) == {"video_id", "category_id", "score", "segmentations"}
        assert entry["video_id"] == 1
        assert 1 <= entry["category_id"] <= 6
        assert len(entry["segmentations"]) == 8
    masks = [rle for entry in entries for rle in entry["segmentations"] if rle]
    assert len(masks) == summary["instances"]
    assert decode_rle(masks[0]).shape == (120, 200)

    written = lines(frames)
    assert [line["frame"] for line in written] == list(range(8))
    assert sum(len(line["instances"]) for line in written) == summary["instances"]
    first = next(instance for line in written for instance in line["instances"])
    assert set(first) == {
        "track_id", "category_id", "label", "score",
        "track_category_id", "track_label", "track_score", "segmentation",
    }  # fmt: skip

    annotated = decode_video(video)
    assert len(annotated) == 8
    with av.open(str(video)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        assert container.streams.video[0].average_rate == 25
    shown = next(line["frame"] for line in written if line["instances"])
    original = decode_video(source)[shown]
    assert np.abs(annotated[shown].astype(int) - original).mean() > 2  # something was drawn
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "f.jsonl", "in.mp4", "r.json", "v.mp4",
    ]  # fmt: skip


def test_lines_on_standard_output(lite_bundle: Path, tmp_path: Path, visolo: Visolo) -> None:
    folder = write_folder(tmp_path / "frames")
    outcome = visolo("run", lite_bundle, folder, "--frames", "-").succeeded()
    assert [json.loads(line)["frame"] for line in outcome.out.splitlines()] == [0, 1, 2, 3]
    visolo("run", lite_bundle, folder, "--frames", "-", "--json").refused("choose one")


def test_a_data_set_carries_its_ids_and_sizes(
    lite_bundle: Path, tmp_path: Path, visolo: Visolo
) -> None:
    source = data_set(tmp_path)
    results, videos = tmp_path / "results.json", tmp_path / "videos"
    visolo("run", lite_bundle, source, "--results", results, "--video", videos).succeeded()
    entries = json.loads(results.read_text())
    lengths = {entry["video_id"]: len(entry["segmentations"]) for entry in entries}
    assert lengths == {4: 3, 9: 2}
    sizes = {
        (entry["video_id"], *rle["size"])
        for entry in entries
        for rle in entry["segmentations"]
        if rle
    }
    assert sizes == {(4, 48, 64), (9, 80, 40)}
    assert sorted(path.name for path in videos.iterdir()) == ["4.mp4", "9.mp4"]
    assert [len(decode_video(videos / name)) for name in ("4.mp4", "9.mp4")] == [3, 2]


def test_odd_sizes_can_be_drawn(lite_bundle: Path, tmp_path: Path, visolo: Visolo) -> None:
    folder = write_folder(tmp_path / "frames", size=(75, 101))
    visolo("run", lite_bundle, folder, "--video", tmp_path / "v.mp4").succeeded()
    assert decode_video(tmp_path / "v.mp4")[0].shape == (76, 102, 3)


def test_part_of_a_video_at_another_size(lite_bundle: Path, tmp_path: Path, visolo: Visolo) -> None:
    folder, results = write_folder(tmp_path / "frames"), tmp_path / "r.json"
    visolo(
        "run", lite_bundle, folder, "--results", results, "--max-frames", 2,
        "--output-size", "30x20", "--video", tmp_path / "v.mp4",
    ).succeeded()  # fmt: skip
    for entry in json.loads(results.read_text()):
        assert len(entry["segmentations"]) == 2
        assert all(rle is None or rle["size"] == [20, 30] for rle in entry["segmentations"])
    visolo("run", lite_bundle, folder, "--output-size", "30").refused("WIDTHxHEIGHT")


def test_settings_can_be_changed(lite_bundle: Path, tmp_path: Path, visolo: Visolo) -> None:
    folder = write_folder(tmp_path / "frames")
    few = visolo("run", lite_bundle, folder, "--json", "--set", "score_threshold=0.9").json()
    many = visolo("run", lite_bundle, folder, "--json", "--set", "score-threshold=0.05").json()
    assert few["instances"] < many["instances"]
    visolo("run", lite_bundle, folder, "--set", "colour=1").refused("unknown", "score_threshold")
    visolo("run", lite_bundle, folder, "--set", "keep_every=x").refused("number")
    visolo("run", lite_bundle, folder, "--set", "score_threshold=2").refused("0 to 1")


def test_skipped_frames_are_reported_counted_and_have_no_masks(
    lite_bundle: Path, tmp_path: Path, visolo: Visolo
) -> None:
    folder, results, frames = (tmp_path / name for name in ("frames", "r.json", "f.jsonl"))
    write_folder(folder)
    (folder / "1.png").write_bytes(b"broken")
    outcome = visolo(
        "run", lite_bundle, folder, "--results", results, "--frames", frames, "--json"
    ).succeeded()
    assert outcome.json()["skipped"] == 1
    assert "frame 1 is skipped, 1.png" in outcome.err
    assert all(entry["segmentations"][1] is None for entry in json.loads(results.read_text()))
    assert "skipped" in lines(frames)[1]


@pytest.mark.parametrize("option", ["--results", "--frames", "--video"])
def test_outputs_that_cannot_be_written(
    lite_bundle: Path, tmp_path: Path, visolo: Visolo, option: str
) -> None:
    folder, out = write_folder(tmp_path / "frames"), tmp_path / "out"
    out.mkdir()
    other = "--frames" if option == "--results" else "--results"
    for target in (tmp_path / "missing" / "file", tmp_path / "frames" / "0.png" / "file", out):
        visolo("run", lite_bundle, folder, other, out / "other", option, target).refused(
            "cannot write"
        )
        assert list(out.iterdir()) == []


def test_a_folder_that_refuses_files(lite_bundle: Path, tmp_path: Path, visolo: Visolo) -> None:
    folder = write_folder(tmp_path / "frames")
    visolo("run", lite_bundle, folder, "--results", "/proc/results.json").refused("cannot write")


def test_a_reader_that_closes_the_pipe_is_not_an_error(lite_bundle: Path, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "frames", frames=6)
    command = [sys.executable, "-m", "visolo.cli", "run", lite_bundle, folder]
    process = subprocess.Popen(
        [str(part) for part in (*command, "--frames", "-")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert json.loads(process.stdout.readline())["frame"] == 0
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) == 141
    assert errors == ""


def test_an_interrupt_leaves_what_was_seen(lite_bundle: Path, tmp_path: Path) -> None:
    source = write_video(tmp_path / "in.mp4", frames=400)
    out = tmp_path / "out"
    out.mkdir()
    command = [
        sys.executable, "-m", "visolo.cli", "run", lite_bundle, source,
        "--results", out / "r.json", "--frames", out / "f.jsonl", "--video", out / "v.mp4",
    ]  # fmt: skip
    process = subprocess.Popen(
        [str(part) for part in command],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        growing = list(out.glob(".f-*.jsonl"))
        if growing and len(growing[0].read_text().splitlines()) >= 5:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert "interrupted" in errors
    assert sorted(path.name for path in out.iterdir()) == ["f.jsonl", "r.json", "v.mp4"]
    written = lines(out / "f.jsonl")
    assert 5 <= len(written) < 400
    assert len(decode_video(out / "v.mp4")) == len(written)
    for entry in json.loads((out / "r.json").read_text()):
        assert len(entry["segmentations"]) == len(written)
