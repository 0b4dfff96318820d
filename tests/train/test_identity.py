"""Identity measures: by hand where a hand can compute them, by brute force elsewhere."""

from __future__ import annotations

import itertools
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import Outcome
from visolo_core.categories import unnamed
from visolo_core.masks import Rle, decode_rle, encode_rle
from visolo_train.data.annotations import AnnotatedTrack, Annotations, Video
from visolo_train.evaluation.identity import identity_measures
from visolo_train.evaluation.scoring import MEASURES

Visolo = Callable[..., Outcome]
FRAMES, SIDE = 4, 16
NAMES = ["HOTA", "DetA", "AssA", "IDF1", "IDP", "IDR"]


def block(left: int, width: int = 4) -> Rle:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[4:12, left : left + width] = True
    return encode_rle(mask)


def track(
    masks: Sequence[Rle | None], category: int = 1, score: float = 0.9, crowd: bool = False
) -> AnnotatedTrack:
    return AnnotatedTrack(1, category, tuple(masks), score, crowd)


def measured(
    truth: Sequence[AnnotatedTrack], tracks: Sequence[AnnotatedTrack], threshold: float = 0.3
) -> dict[str, float]:
    videos = tuple(Video(number, SIDE, SIDE, ("frame",) * FRAMES) for number in (1, 2))
    data_set = Annotations(unnamed(2), videos, tuple(truth))
    return identity_measures(data_set, tracks, threshold).figures()


def there(mask: Rle, frames: Sequence[int]) -> list[Rle | None]:
    return [mask if frame in frames else None for frame in range(FRAMES)]


OBJECT = track([block(2)] * FRAMES)
OTHER = track([block(9)] * FRAMES)


def test_the_truth_itself_is_perfect() -> None:
    assert measured([OBJECT, OTHER], [OTHER, OBJECT]) == dict.fromkeys(NAMES, pytest.approx(1))


def test_a_switch_half_way_costs_half_of_the_identity_and_nothing_of_the_detection() -> None:
    """Each hit's track and object agree in two of four frames."""
    first, second = track(there(block(2), [0, 1])), track(there(block(2), [2, 3]))
    figures = measured([OBJECT], [first, second])
    assert figures["IDF1"] == figures["IDP"] == figures["IDR"] == 0.5
    assert figures["DetA"] == pytest.approx(1)
    assert figures["AssA"] == pytest.approx(0.5)
    assert figures["HOTA"] == pytest.approx(math.sqrt(0.5))


def test_two_objects_that_swap_their_tracks() -> None:
    swapped = [block(2), block(2), block(2), block(9)], [block(9), block(9), block(9), block(2)]
    figures = measured([OBJECT, OTHER], [track(each) for each in swapped])
    assert figures["IDF1"] == 0.75
    # Of eight hits, six share 3 of 5 frames with their track and two share 1 of 7.
    assert figures["AssA"] == pytest.approx((6 * 3 / 5 + 2 * 1 / 7) / 8)


def test_misses_lower_recall_and_false_alarms_precision() -> None:
    missed = measured([OBJECT, OTHER], [OBJECT])
    assert (missed["IDP"], missed["IDR"]) == (1, 0.5)
    invented = measured([OBJECT], [OBJECT, OTHER])
    assert (invented["IDP"], invented["IDR"]) == (0.5, 1)
    assert missed["DetA"] == invented["DetA"] == pytest.approx(0.5)


def test_hota_averages_over_overlaps_and_idf1_asks_for_one_half() -> None:
    """A mask of five eighths of its object passes 12 of the 19 thresholds from .05 to .95."""
    larger, smaller = track([block(0, 8)] * FRAMES), track([block(0, 5)] * FRAMES)
    figures = measured([larger], [smaller])
    assert figures["HOTA"] == pytest.approx(12 / 19)
    assert figures["IDF1"] == 1
    assert measured([larger], [track([block(0, 3)] * FRAMES)])["IDF1"] == 0


def test_only_tracks_with_a_fair_score_count() -> None:
    doubtful = track(OTHER.segmentations, score=0.29)
    assert measured([OBJECT], [OBJECT, doubtful])["IDP"] == 1
    assert measured([OBJECT], [OBJECT, doubtful], threshold=0.29)["IDP"] == 0.5


def test_a_wrong_category_or_video_is_a_miss_and_a_false_alarm() -> None:
    assert measured([OBJECT], [track(OBJECT.segmentations, category=2)])["IDF1"] == 0
    assert measured([OBJECT], [AnnotatedTrack(2, 1, OBJECT.segmentations)])["IDF1"] == 0


def test_categories_are_summed_by_their_masks() -> None:
    """One category is tracked in all of its four frames, the other in neither of its two."""
    missed = track(there(block(9), [0, 1]), category=2)
    figures = measured([OBJECT, missed], [OBJECT])
    assert figures["IDR"] == pytest.approx(4 / 6)
    assert figures["DetA"] == pytest.approx(4 / 6)


def test_masks_in_a_crowd_are_no_false_alarms_and_crowds_no_objects() -> None:
    crowd = track([block(8, 8)] * FRAMES, crowd=True)
    assert measured([OBJECT, crowd], [OBJECT, OTHER]) == dict.fromkeys(NAMES, pytest.approx(1))
    mostly_outside = track([block(5, 5)] * FRAMES)
    assert measured([OBJECT, crowd], [OBJECT, mostly_outside])["IDP"] == 0.5
    of_other_category = track([block(8, 8)] * FRAMES, category=2, crowd=True)
    assert measured([OBJECT, of_other_category], [OBJECT, OTHER])["IDP"] == 0.5


def test_a_track_of_an_object_counts_even_inside_a_crowd() -> None:
    crowd = track([block(0, 16)] * FRAMES, crowd=True)
    assert measured([OBJECT, crowd], [OBJECT])["IDR"] == 1


def test_masks_without_a_pixel_are_not_there() -> None:
    nothing = encode_rle(np.zeros((SIDE, SIDE), bool))
    partly = track([*there(block(2), [0, 1])[:2], nothing, nothing])
    assert measured([partly], [track(there(block(2), [0, 1]))])["IDF1"] == 1


def test_without_objects_nothing_is_defined_and_without_tracks_all_is_zero() -> None:
    crowd = track([block(2)] * FRAMES, crowd=True)
    assert set(measured([crowd], [OTHER]).values()) == {-1}
    assert set(measured([OBJECT], []).values()) == {0}


# ------------------------------------------------------------ an independent, naive IDF1


def naive_idf1(truth: list[AnnotatedTrack], tracks: list[AnnotatedTrack]) -> float:
    """Best over all one-to-one assignments of tracks to objects."""
    same = {
        (a, b): sum(
            mine is not None and other is not None and overlap(mine, other) >= 0.5
            for mine, other in zip(truth[a].segmentations, tracks[b].segmentations, strict=True)
        )
        for a in range(len(truth))
        for b in range(len(tracks))
        if (truth[a].video_id, truth[a].category_id) == (tracks[b].video_id, tracks[b].category_id)
    }
    slots = [*range(len(tracks)), *[None] * len(truth)]
    best = max(
        sum(same.get((a, b), 0) for a, b in enumerate(assignment) if b is not None)
        for assignment in itertools.permutations(slots, len(truth))
    )
    masks = [mask for each in (*truth, *tracks) for mask in each.segmentations if mask is not None]
    return 2 * best / len(masks)


def overlap(first: Rle, second: Rle) -> float:
    a, b = decode_rle(first), decode_rle(second)
    return float((a & b).sum() / (a | b).sum())


def random_tracks(generator: np.random.Generator, count: int) -> list[AnnotatedTrack]:
    """Blocks that come and go at three places, in two videos and two categories."""
    tracks = []
    for _ in range(count):
        masks = [
            block(int(generator.choice([0, 1, 8])), 6) if generator.random() < 0.7 else None
            for _ in range(FRAMES)
        ]
        masks[int(generator.integers(FRAMES))] = block(0, 6)
        video, category = (int(each) for each in generator.choice([1, 2], 2, p=[0.8, 0.2]))
        tracks.append(AnnotatedTrack(video, category, tuple(masks)))
    return tracks


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(0, 4))
def test_an_independent_idf1_agrees(seed: int, objects: int, guesses: int) -> None:
    generator = np.random.default_rng(seed)
    truth, tracks = (random_tracks(generator, count) for count in (objects, guesses))
    assert measured(truth, tracks)["IDF1"] == pytest.approx(naive_idf1(truth, tracks), abs=1e-12)


# ----------------------------------------------------------------------- the command line


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Annotations, and results with a switch half-way and a doubtful track."""
    common = {"video_id": 1, "category_id": 5}
    truth = {
        "videos": [{"id": 1, "height": SIDE, "width": SIDE, "file_names": list("abcd")}],
        "categories": [{"id": 5, "name": "thing"}],
        "annotations": [{"id": 1, **common, "segmentations": [block(2)] * FRAMES}],
    }
    results = [
        {**common, "score": 0.9, "segmentations": there(block(2), [0, 1])},
        {**common, "score": 0.8, "segmentations": there(block(2), [2, 3])},
        {**common, "score": 0.1, "segmentations": [block(9)] * FRAMES},
    ]
    paths = tmp_path / "gt.json", tmp_path / "results.json"
    for path, value in zip(paths, (truth, results), strict=True):
        path.write_text(json.dumps(value))
    return paths


def test_the_figures_are_added_under_one_key(files: tuple[Path, Path], visolo: Visolo) -> None:
    plain = visolo("score", *files, "--json").succeeded().json()
    scores = visolo("score", *files, "--identity", "--json").succeeded().json()
    assert list(plain) == [*MEASURES, "per_category"]
    assert {key: value for key, value in scores.items() if key != "identity"} == plain
    assert list(scores["identity"]) == [*NAMES, "score_threshold"]
    assert scores["identity"]["IDF1"] == 0.5
    assert scores["identity"]["score_threshold"] == 0.3


def test_the_figures_for_people(files: tuple[Path, Path], visolo: Visolo) -> None:
    out = visolo("score", *files, "--identity").succeeded().out
    assert "HOTA 70.7  DetA 100.0  AssA 50.0  IDF1 50.0  IDP 50.0  IDR 50.0" in out
    assert "0.3" in out
    all_tracks = visolo("score", *files, "--identity", "--track-score", "0").succeeded().out
    assert "IDP 25.0" in all_tracks


def test_a_missing_package_is_reported_with_its_extra(
    files: tuple[Path, Path], visolo: Visolo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "visolo_train.evaluation.identity")
    for name in [name for name in sys.modules if name.partition(".")[0] == "trackeval"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [_Missing(), *sys.meta_path])
    visolo("score", *files, "--identity").refused("trackeval", "visolo[identity]")
    visolo("score", *files).succeeded()


class _Missing:
    """An importer that fails for TrackEval; it goes before the others."""

    def find_spec(self, name: str, *_: object) -> None:
        if name.partition(".")[0] == "trackeval":
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
