"""Drawn videos match their annotations, and a seed always gives the same ones."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers import Outcome
from visolo_core.masks import decode_rle
from visolo_runtime.sources.opening import open_source
from visolo_train.data.annotations import read_annotations
from visolo_train.data.synthetic import SyntheticClip, draw_clip

Visolo = Callable[..., Outcome]
AREAS = [4051, 2861, 3683]


@pytest.fixture(scope="module")
def clips() -> list[SyntheticClip]:
    return [draw_clip(7, number, 12, 96, 168) for number in range(40)]


def test_a_seed_is_a_video() -> None:
    first, again = (draw_clip(3, 5, 4, 96, 168) for _ in range(2))
    assert np.array_equal(first.frames, again.frames)
    assert np.array_equal(first.masks, again.masks)
    assert not np.array_equal(first.frames, draw_clip(3, 6, 4, 96, 168).frames)
    assert not np.array_equal(first.frames, draw_clip(4, 5, 4, 96, 168).frames)
    # If these areas change, so does every data set drawn before. (Another machine's sine may
    # move a pixel.)
    areas = first.masks.sum(axis=(0, 2, 3)).tolist()
    assert areas == pytest.approx(AREAS, abs=8)


def test_no_pixel_belongs_to_two_objects(clips: list[SyntheticClip]) -> None:
    for clip in clips:
        assert clip.masks.sum(axis=1).max() <= 1
        assert clip.masks.shape[1] == len(clip.category_ids)


def test_drawn_videos_cover_the_hard_cases_of_tracking(clips: list[SyntheticClip]) -> None:
    categories = Counter(category for clip in clips for category in clip.category_ids)
    assert set(categories) == {1, 2, 3, 4, 5, 6}
    assert {len(clip.category_ids) for clip in clips} == {1, 2, 3, 4}
    twins = [clip for clip in clips if len(set(clip.category_ids)) < len(clip.category_ids)]
    assert len(twins) >= 4
    returns = covered = 0
    for clip in clips:
        visible = np.asarray(clip.masks.any(axis=(2, 3)))  # [F, L]
        for track in np.moveaxis(visible, 0, 1):
            present = np.flatnonzero(track)
            returns += present.size > 0 and not track[present[0] : present[-1]].all()
        area = clip.masks.sum(axis=(2, 3))
        covered += bool(((area > 0) & (area < 0.5 * area.max(axis=0))).any())
    assert returns >= 2
    assert covered >= 8


def test_objects_stand_out_where_their_masks_are(clips: list[SyntheticClip]) -> None:
    """The mask is where the object was painted: its edge is where the picture changes."""
    clip = next(clip for clip in clips if clip.masks[0].any())
    mask = clip.masks[0].any(axis=0)
    frame = clip.frames[0].astype(int)
    across = np.abs(np.diff(frame, axis=1)).sum(axis=2)
    edge = mask[:, 1:] != mask[:, :-1]
    assert across[edge].mean() > 2 * across[~edge].mean()


def test_a_data_set_on_disk(tmp_path: Path, visolo: Visolo) -> None:
    out = tmp_path / "shapes"
    arguments = ["--videos", 3, "--seed", 7, "--frames", 5, "--size", "168x96"]
    visolo("data", "synth", out, *arguments).succeeded()
    annotations = read_annotations(out / "instances.json")
    assert annotations.labels.names == ("disc", "square", "triangle", "star", "cross", "ring")
    assert [len(video.file_names) for video in annotations.videos] == [5, 5, 5]
    clips = open_source(str(out / "instances.json"))
    assert [len(list(clip.frames())) for clip in clips] == [5, 5, 5]
    drawn = draw_clip(7, 0, 5, 96, 168)
    stored = np.asarray(Image.open(out / "JPEGImages" / annotations.videos[0].file_names[2]))
    assert np.abs(stored.astype(int) - drawn.frames[2]).mean() < 12
    track = annotations.tracks[0]
    assert track.video_id == 1
    masks = [np.zeros((96, 168), bool) if m is None else decode_rle(m) for m in track.segmentations]
    assert any(
        np.array_equal(np.stack(masks), drawn.masks[:, index])
        for index in range(len(drawn.category_ids))
    )
    listed = json.loads((out / "instances.json").read_text())["annotations"][0]
    ys, xs = np.nonzero(masks[0])
    if ys.size:
        assert listed["areas"][0] == ys.size
        assert listed["bboxes"][0] == [
            xs.min(), ys.min(), xs.max() - xs.min() + 1, ys.max() - ys.min() + 1,
        ]  # fmt: skip


def test_refusals_leave_nothing(tmp_path: Path, visolo: Visolo) -> None:
    visolo("data", "synth", tmp_path, "--videos", 1).refused("exists already")
    visolo("data", "synth", tmp_path / "no" / "where", "--videos", 1).refused("cannot write")
    visolo("data", "synth", tmp_path / "a", "--size", "big").refused("WIDTHxHEIGHT")
    assert list(tmp_path.iterdir()) == []
