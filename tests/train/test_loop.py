"""Training clips and the training loop."""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers import TINY
from untrained import untrained
from visolo_core.categories import SHAPES
from visolo_core.errors import VisoloError
from visolo_train.data.annotations import Annotations, read_annotations
from visolo_train.data.synthetic import draw_clip
from visolo_train.data.synthetic_data import write_synthetic_data
from visolo_train.learning.augmentation import Augmentation
from visolo_train.learning.clips import AnnotatedClips, Sampling
from visolo_train.learning.loop import Schedule, Trainer, train
from visolo_train.learning.losses import Losses

MODEL = replace(TINY, backbone_width=16, backbone_norm="batch", classes=6)
SCHEDULE = Schedule(
    steps=6, batch=2, learning_rate=2e-3, backbone_factor=1, clip_norm=1, warm_up=2, average=0.9,
    extent="mask",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "shapes"
    write_synthetic_data(folder, videos=5, seed=3, frames=8, size=(64, 96))
    return folder


@pytest.fixture(scope="module")
def data_set(folder: Path) -> Annotations:
    return read_annotations(folder / "instances.json")


@pytest.fixture(scope="module")
def data(folder: Path, data_set: Annotations) -> AnnotatedClips:
    return clips_of(folder, data_set)


def clips_of(
    folder: Path, data_set: Annotations, flip: bool = True, seed: int = 1
) -> AnnotatedClips:
    augmentation = Augmentation((64, 96), flip=flip)
    images = folder / "JPEGImages"
    return AnnotatedClips(data_set, images, SHAPES, Sampling(reach=2), augmentation, seed)


def test_a_number_is_a_clip(data: AnnotatedClips) -> None:
    for number in (0, 7):
        first, again = data[number], data[number]
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(data[0].frames, data[len(data)].frames)


def test_every_round_shows_every_video_once(data: AnnotatedClips) -> None:
    counts = [len(data[number].classes) for number in range(2 * len(data))]
    assert sorted(counts[: len(data)]) == sorted(counts[len(data) :])


def test_masks_fit_their_frames(folder: Path, data_set: Annotations) -> None:
    """Unmirrored frames and masks are those that were drawn, within reach of each other."""
    data = clips_of(folder, data_set, flip=False, seed=5)
    drawn = [draw_clip(3, video, 8, 64, 96) for video in range(5)]
    for number in range(10):
        clip = data[number]
        assert clip.frames.dtype == torch.uint8
        positions = []
        for frame, masks in zip(clip.frames, clip.masks, strict=True):
            picture = frame.permute(1, 2, 0).numpy().astype(int)
            far = [
                (np.abs(video.frames[at] - picture).mean(), at, video)
                for video in drawn
                for at in range(8)
            ]
            _, at, video = min(far, key=lambda each: each[0])
            positions.append(at)
            present = [
                index for index in range(len(video.category_ids)) if video.masks[:, index].any()
            ]
            assert np.array_equal(masks.numpy(), video.masks[at][present])
            assert clip.classes.tolist() == [video.category_ids[each] - 1 for each in present]
        assert max(positions) - min(positions) <= 4
        assert positions == sorted(positions)


def test_mirrored_clips_are_mirrored_whole(folder: Path, data_set: Annotations) -> None:
    plain, mirrored = (clips_of(folder, data_set, flip) for flip in (False, True))
    kinds = set()
    for number in range(8):
        a, b = plain[number], mirrored[number]
        same = torch.equal(a.frames, b.frames)
        kinds.add(same)
        assert same == torch.equal(a.masks, b.masks) or not a.masks.any()
        assert torch.equal(a.frames if same else a.frames.flip(-1), b.frames)
    assert kinds == {True, False}


def test_a_missing_frame_is_named(tmp_path: Path, data_set: Annotations) -> None:
    data = clips_of(tmp_path, data_set)
    with pytest.raises(VisoloError, match="cannot read the frame"):
        data[0]


def run(
    trainer: Trainer,
    data: AnnotatedClips,
    checkpoint: Path,
    stop_after: int | None = None,
    workers: int = 0,
) -> list[float]:
    losses = []

    class Killed(Exception):
        pass

    def report(step: int, of_step: Losses) -> None:
        losses.append(of_step.total.item())
        if step == stop_after:
            raise Killed

    with contextlib.suppress(Killed):
        train(trainer, data, checkpoint, save_every=3, workers=workers, report=report)
    return losses


def test_an_interrupted_training_ends_with_the_same_weights(
    data: AnnotatedClips, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "last.pt"
    whole = Trainer(untrained(MODEL), SCHEDULE)
    expected = run(whole, data, tmp_path / "whole.pt")
    assert len(expected) == 6
    killed = Trainer(untrained(MODEL), SCHEDULE)
    assert run(killed, data, checkpoint, stop_after=5) == expected[:5]  # the last save was at 3
    resumed = Trainer(untrained(MODEL, seed=9), SCHEDULE)
    resumed.resume(checkpoint)
    assert resumed.step == 3
    assert run(resumed, data, checkpoint, workers=1) == expected[3:]
    for ours, theirs in (
        (resumed.model.state_dict(), whole.model.state_dict()),
        (resumed.best_weights(), whole.best_weights()),
    ):
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_checkpoints_of_something_else(data: AnnotatedClips, tmp_path: Path) -> None:
    trainer = Trainer(untrained(MODEL), SCHEDULE)
    trainer.save(tmp_path / "a.pt")
    with pytest.raises(VisoloError, match="schedule"):
        Trainer(untrained(MODEL), replace(SCHEDULE, steps=7)).resume(tmp_path / "a.pt")
    with pytest.raises(VisoloError, match="another network"):
        Trainer(untrained(MODEL.with_classes(2)), SCHEDULE).resume(tmp_path / "a.pt")


def test_a_loss_that_is_not_a_number_stops_and_keeps_the_weights(
    data: AnnotatedClips, tmp_path: Path
) -> None:
    trainer = Trainer(untrained(MODEL), SCHEDULE)
    run(trainer, data, tmp_path / "last.pt", stop_after=4)
    kept = (tmp_path / "last.pt").read_bytes()
    torch.nn.init.constant_(trainer.model.category_branch.classifier.weight, torch.nan)
    with pytest.raises(VisoloError, match="loss of step 4 is not a number"):
        train(trainer, data, tmp_path / "last.pt", save_every=1)
    assert (tmp_path / "last.pt").read_bytes() == kept


def test_learning_rate() -> None:
    cosine = Schedule(steps=100, batch=1, warm_up=10)
    rates = [cosine.rate(step) for step in range(100)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))
    assert rates[-1] < 0.01
    drops = Schedule(steps=140, batch=1, drops=(60, 100))
    assert [drops.rate(step) for step in (59, 60, 100)] == pytest.approx([1, 0.1, 0.01])


def test_losses_fall(data: AnnotatedClips, tmp_path: Path) -> None:
    schedule = replace(SCHEDULE, steps=40, average=0.0)
    losses = run(Trainer(untrained(MODEL), schedule), data, tmp_path / "last.pt")
    assert np.mean(losses[-10:]) < 0.6 * np.mean(losses[:5])
