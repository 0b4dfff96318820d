"""The figures of real videos: best tracks, strays, and other label sets as everyday things."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.real_things import exhaustive_only, found_by_size, stray_tracks, track_matches
from visolo_core.categories import COCO, EVERYDAY, LABEL_SETS, YTVIS2019, LabelSet, plain_name
from visolo_core.masks import Rle, encode_rle
from visolo_train.data.annotations import AnnotatedTrack, Annotations, Video
from visolo_train.data.category_maps import as_everyday

PERSON, CAR, ANIMAL = 1, 3, 7
VIDEOS = (
    Video(1, 10, 20, ("street/0.jpg", "street/1.jpg")),
    Video(2, 10, 20, ("field/0.jpg", "field/1.jpg"), exhaustive=False),
)


def box(left: int, right: int) -> Rle:
    """The columns from left to right, of all ten rows."""
    mask = np.zeros((10, 20), bool)
    mask[:, left:right] = True
    return encode_rle(mask)


def track(
    video: int, category: int, *boxes: tuple[int, int] | None, score: float = 1.0
) -> AnnotatedTrack:
    rles = tuple(None if each is None else box(*each) for each in boxes)
    return AnnotatedTrack(video, category, rles, score)


TRUTH = Annotations(
    EVERYDAY, VIDEOS, (track(1, PERSON, (0, 4), (2, 6)), track(2, CAR, (0, 10), None))
)


def test_the_best_track_of_the_right_class_counts() -> None:
    results = [
        track(1, PERSON, (0, 4), None, score=0.1),  # a low score does not matter
        track(1, PERSON, (0, 4), (2, 4), score=0.9),
        track(1, CAR, (0, 4), (2, 6)),  # perfect, but of another class
        track(2, CAR, (5, 10), None),
        track(2, PERSON, (0, 10), None),
    ]
    first, second = track_matches(TRUTH, results)
    assert (first.video, first.label, second.label) == ("street", "person", "car")
    assert first.overlap == pytest.approx(60 / 80)
    assert second.overlap == pytest.approx(50 / 100)
    assert (first.size, second.size) == (0.2, 0.5)
    assert track_matches(TRUTH, [])[0].overlap == 0


def test_found_by_size_wants_more_than_half() -> None:
    matches = track_matches(TRUTH, [track(1, PERSON, (0, 4), (2, 6)), track(2, CAR, (5, 10), None)])
    assert found_by_size(matches) == {"found, 10% to 100% (2)": 0.5}


def test_a_stray_matches_nothing_of_any_class() -> None:
    stray = track(1, PERSON, (15, 20), (15, 20), score=0.4)
    results = [
        stray,
        track(1, PERSON, (15, 20), None, score=0.2),  # nobody would see it
        track(1, CAR, (0, 4), (2, 6), score=0.9),  # a wrong class is no stray
    ]
    assert stray_tracks(TRUTH, results) == [stray]


def test_only_complete_videos_count_for_precision() -> None:
    complete = exhaustive_only(TRUTH)
    assert [video.video_id for video in complete.videos] == [1]
    assert [each.video_id for each in complete.tracks] == [1]


def test_other_label_sets_as_everyday_things() -> None:
    def mapped(labels: LabelSet) -> dict[str, str]:
        tracks = [track(1, number, (0, 4), None, score=at) for at, number in enumerate(labels.ids)]
        everyday = as_everyday(Annotations(labels, VIDEOS, tuple(tracks)))
        names = dict(zip(EVERYDAY.ids, EVERYDAY.names, strict=True))
        return {
            plain_name(labels.names[int(each.score)]): names[each.category_id]
            for each in everyday.tracks
        }

    youtube = mapped(YTVIS2019)
    assert youtube["sedan"] == "car"
    assert youtube["motorbike"] == "motorcycle"
    assert youtube["earless seal"] == youtube["duck"] == youtube["cow"] == "animal"
    assert not youtube.keys() & {"train", "truck", "tennis racket", "skateboard", "hand"}
    coco = mapped(COCO)
    assert (coco["bicycle"], coco["bird"]) == ("bicycle", "animal")
    assert "mouse" not in coco  # it is a computer mouse
    assert mapped(EVERYDAY) == {name: name for name in EVERYDAY.names}
    assert all(mapped(labels) for name, labels in LABEL_SETS.items() if name != "shapes")
