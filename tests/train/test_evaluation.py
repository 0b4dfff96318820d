"""Scores are the official evaluator's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from helpers import Outcome
from visolo_core.categories import unnamed
from visolo_core.masks import decode_rle, encode_rle
from visolo_train.data.annotations import AnnotatedTrack, Annotations, Video
from visolo_train.data.segmentations import to_rle
from visolo_train.data.synthetic_data import write_synthetic_data
from visolo_train.evaluation.scoring import MEASURES, score_tracks, track_overlaps

Visolo = Callable[..., Outcome]


def test_the_official_figures(evaluator_folder: Path, visolo: Visolo) -> None:
    expected = json.loads((evaluator_folder / "expected.json").read_text())
    files = evaluator_folder / "gt.json", evaluator_folder / "results.json"
    figures = visolo("score", *files, "--json").json()
    assert list(figures) == [*MEASURES, "per_category"]
    for name, value in expected["stats"].items():
        assert figures[name] == pytest.approx(value, abs=1e-9)
    for category, value in expected["ap_per_category"].items():
        expected_ap = -1 if value is None else value
        assert figures["per_category"][category] == pytest.approx(expected_ap, abs=1e-9)


def test_the_table(evaluator_folder: Path, visolo: Visolo) -> None:
    files = evaluator_folder / "gt.json", evaluator_folder / "results.json"
    out = visolo("score", *files).succeeded().out
    assert out.startswith("AP 25.5  AP50 44.6")


# ------------------------------------------------- an independent, slow, naive evaluator

Bits = NDArray[np.bool_]  # a track: [frames, height, width]


def naive_iou(first: Bits, second: Bits) -> float:
    union = (first | second).sum()
    return float((first & second).sum() / union) if union else 0.0


def naive_average_precision(
    truth: list[tuple[int, Bits]], results: list[tuple[int, Bits, float]], threshold: float
) -> float:
    """AP of one category, with all of COCO's rules but crowds and size ranges."""
    matched: set[int] = set()
    hits = []
    for video, bits, _ in sorted(results, key=lambda each: -each[2]):
        best, best_iou = None, min(threshold, 1 - 1e-10)
        for at, (other, other_bits) in enumerate(truth):
            if other == video and at not in matched:
                iou = naive_iou(bits, other_bits)
                if iou >= best_iou:
                    best, best_iou = at, iou
        hits.append(best is not None)
        if best is not None:
            matched.add(best)
    recall = np.cumsum(hits) / len(truth)
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    points = np.linspace(0, 1, 101)
    return float(
        np.mean([max(precision[recall >= point], default=0) for point in points])
    )  # fmt: skip


def tracks_of(
    generator: np.random.Generator, count: int, frames: int
) -> list[tuple[int, int, Bits, float]]:
    """Random tracks of rectangles in two videos and two categories, distinct scores."""
    scores = generator.permutation(count) / count + 0.01
    tracks = []
    for number in range(count):
        bits = np.zeros((frames, 8, 8), bool)
        top, left = generator.integers(0, 5, 2)
        for frame in range(frames):
            if generator.random() < 0.8:
                bits[frame, top : top + 4, left : left + generator.integers(2, 5)] = True
        video, category = (int(each) for each in generator.integers(1, 3, 2))
        tracks.append((video, category, bits, float(scores[number])))
    return tracks


def as_track(video: int, category: int, bits: Bits, score: float) -> AnnotatedTrack:
    masks = tuple(encode_rle(frame) if frame.any() else None for frame in bits)
    return AnnotatedTrack(video, category, masks, score)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 7), st.integers(0, 9))
def test_an_independent_evaluator_agrees(seed: int, objects: int, guesses: int) -> None:
    generator = np.random.default_rng(seed)
    truth, results = (tracks_of(generator, count, frames=3) for count in (objects, guesses))
    videos = tuple(Video(number, 8, 8, ("a", "b", "c")) for number in (1, 2))
    data_set = Annotations(unnamed(2), videos, tuple(as_track(*each) for each in truth))
    score = score_tracks(data_set, [as_track(*each) for each in results])
    for category in (1, 2):
        mine = [(v, bits) for v, c, bits, _ in truth if c == category]
        guessed = [(v, bits, s) for v, c, bits, s in results if c == category]
        expected = -1.0
        if mine:
            thresholds = np.linspace(0.5, 0.95, 10)
            expected = float(
                np.mean([naive_average_precision(mine, guessed, each) for each in thresholds])
            )
        assert score.per_category[category] == pytest.approx(expected, abs=1e-9)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 4), st.integers(0, 4))
def test_overlaps_of_tracks(seed: int, first: int, second: int) -> None:
    generator = np.random.default_rng(seed)
    a, b = (tracks_of(generator, count, frames=4) for count in (first, second))
    overlaps = track_overlaps(
        *([as_track(*each).segmentations for each in tracks] for tracks in (a, b))
    )
    assert overlaps.shape == (first, second)
    for row, (_, _, bits, _) in enumerate(a):
        for column, (_, _, other, _) in enumerate(b):
            assert overlaps[row, column] == pytest.approx(naive_iou(bits, other), abs=1e-12)


# ------------------------------------------------------------------------ scoring a model


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "shapes"
    write_synthetic_data(folder, videos=2, seed=1, frames=3, size=(96, 168))
    return folder


def test_a_model_is_scored_as_its_results_are(
    lite_bundle: Path, drawn: Path, tmp_path: Path, visolo: Visolo
) -> None:
    truth, results = drawn / "instances.json", tmp_path / "results.json"
    outcome = visolo(
        "eval", lite_bundle, "--data", truth, "--results", results, "--json"
    ).succeeded()  # fmt: skip
    assert list(outcome.json()) == [*MEASURES, "per_category"]
    assert outcome.json() == visolo("score", truth, results, "--json").json()
    assert len(json.loads(results.read_text())) > 0
    assert "AP50" in visolo("eval", lite_bundle, "--data", truth).succeeded().out


def test_the_truth_itself_scores_full_marks(drawn: Path, tmp_path: Path, visolo: Visolo) -> None:
    truth = drawn / "instances.json"
    perfect = [{**track, "score": 0.5} for track in json.loads(truth.read_text())["annotations"]]
    (tmp_path / "results.json").write_text(json.dumps(perfect))
    figures = visolo("score", truth, tmp_path / "results.json", "--json").json()
    assert figures["AP"] == pytest.approx(1)


def test_a_model_of_other_categories(
    lite_bundle: Path, drawn: Path, tmp_path: Path, visolo: Visolo
) -> None:
    document = json.loads((drawn / "instances.json").read_text())
    document["categories"][0]["name"] = "dog"
    other = tmp_path / "other.json"
    other.write_text(json.dumps(document))
    visolo(
        "eval", lite_bundle, "--data", other, "--images", drawn / "JPEGImages"
    ).refused("category 1 is 'disc' (shapes)", "'dog'")  # fmt: skip
    numbers = {1: 6, 6: 1}
    document = json.loads((drawn / "instances.json").read_text())
    for entry in document["categories"]:
        entry["id"] = numbers.get(entry["id"], entry["id"])
    other.write_text(json.dumps(document))
    visolo(
        "eval", lite_bundle, "--data", other, "--images", drawn / "JPEGImages"
    ).refused("only the numbers differ", "visolo data import --labels")  # fmt: skip


# ----------------------------------------------------------------------- reading the files


def test_three_forms_of_a_mask() -> None:
    square = np.zeros((6, 8), bool)
    square[1:4, 2:6] = True
    rle = encode_rle(square)
    runs, last, count = [], False, 0
    for pixel in square.T.ravel():
        if pixel != last:
            runs.append(count)
            last, count = bool(pixel), 0
        count += 1
    runs.append(count)
    polygon = [[2, 1, 6, 1, 6, 4, 2, 4]]
    for form in (rle, {"size": [6, 8], "counts": runs}, polygon):
        assert np.array_equal(decode_rle(to_rle(form, 6, 8)), square)


def data_set() -> dict[str, Any]:
    mask = encode_rle(np.ones((4, 4), bool))
    return {
        "videos": [{"id": 1, "height": 4, "width": 4, "file_names": ["a.jpg", "b.jpg"]}],
        "categories": [{"id": 5, "name": "thing"}],
        "annotations": [{"id": 1, "video_id": 1, "category_id": 5, "segmentations": [mask, None]}],
    }


def write(tmp_path: Path, truth: Any, results: Any) -> tuple[Path, Path]:
    paths = tmp_path / "gt.json", tmp_path / "results.json"
    for path, value in zip(paths, (truth, results), strict=True):
        path.write_text(json.dumps(value))
    return paths


def test_a_perfect_result_and_an_empty_one(tmp_path: Path, visolo: Visolo) -> None:
    truth = data_set()
    perfect = [{**truth["annotations"][0], "score": 0.9}]
    assert visolo("score", *write(tmp_path, truth, perfect), "--json").json()[
        "AP"
    ] == pytest.approx(1)
    assert visolo("score", *write(tmp_path, truth, []), "--json").json()["AP"] == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.pop("videos"), "no list 'videos'"),
        (lambda d: d["videos"].append(d["videos"][0]), "its id 1 is that of videos[0]"),
        (lambda d: d["videos"][0].pop("height"), "videos[0]"),
        (lambda d: d["annotations"][0].update(video_id=7), "no video or image 7"),
        (lambda d: d["annotations"][0].update(category_id=7), "no category 7"),
        (lambda d: d["annotations"][0]["segmentations"].pop(), "1 masks for 2 frames"),
        (lambda d: d["annotations"][0]["segmentations"][0].update(size=[3, 4]), "4x3"),
        (lambda d: d["annotations"][0]["segmentations"][0].update(counts=[9, 9]), "run lengths"),
        (lambda d: d["categories"][0].pop("name"), "category"),
    ],
)
def test_broken_annotations(
    tmp_path: Path, visolo: Visolo, change: Callable[[Any], Any], words: str
) -> None:
    truth = data_set()
    change(truth)
    visolo("score", *write(tmp_path, truth, [])).refused("gt.json", words)


@pytest.mark.parametrize("results", [{}, [{}], [3], [{"video_id": 1, "category_id": 5}]])
def test_broken_results(tmp_path: Path, visolo: Visolo, results: Any) -> None:
    visolo("score", *write(tmp_path, data_set(), results)).refused("results.json")
