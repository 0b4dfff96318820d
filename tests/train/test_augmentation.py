"""What is drawn per clip and what per frame; data sets are mixed in fixed shares."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import Dataset
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from visolo_core.errors import VisoloError
from visolo_train.data.synthetic import draw_clip
from visolo_train.learning.augmentation import (
    Augmentation,
    ClipDraw,
    _turned,
    augment,
    draw_for_clip,
)
from visolo_train.learning.clips import DrawnClips, MixedClips, Sampling, TrainingClip

SIZE = (48, 80)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def picture_with_mask(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A frame whose bright pixels are exactly its one object, an ellipse."""
    y, x = torch.linspace(-1, 1, height)[:, None], torch.linspace(-1, 1, width)[None, :]
    mask = (x - 0.2) ** 2 + (y + 0.1) ** 2 < 0.4
    picture = torch.where(mask, 250, 5).to(torch.uint8).expand(3, -1, -1).contiguous()
    return picture, mask[None]


def test_a_clip_has_one_size_and_one_side() -> None:
    augmentation = Augmentation(SIZE, short_sides=(50, 60, 70))
    drawn = [draw_for_clip(generator(seed), augmentation) for seed in range(60)]
    assert {each.mirrored for each in drawn} == {True, False}
    assert {each.short_side for each in drawn} == {50, 60, 70}
    plain = Augmentation(SIZE, flip=False)
    assert draw_for_clip(generator(), plain) == ClipDraw(False, None)


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(40, 120),
    width=st.integers(40, 120),
    side=st.sampled_from([None, 30, 48, 90]),
    rotation=st.sampled_from([0.0, 15.0]),
    mirrored=st.booleans(),
    seed=st.integers(0, 99),
)
def test_masks_go_with_their_frame(
    height: int, width: int, side: int | None, rotation: float, mirrored: bool, seed: int
) -> None:
    """After any augmentation the bright pixels are still the object's, except along its edge."""
    picture, mask = picture_with_mask(height, width)
    augmentation = Augmentation(SIZE, (side,) if side else (), rotation)
    frame, masks = augment(generator(seed), augmentation, ClipDraw(mirrored, side), picture, mask)
    assert frame.shape == (3, *SIZE)
    assert frame.dtype == torch.uint8
    assert masks.shape == (1, *SIZE)
    assert masks.dtype == torch.bool
    inside, outside = eroded(masks), eroded(~masks)
    assert (frame[:, inside[0]] > 200).all()
    # What is filled in has the mean colour, which is neither bright nor the background.
    assert (frame[:, outside[0]] < 200).all()


def eroded(masks: torch.Tensor, pixels: int = 3) -> torch.Tensor:
    """Without the pixels that are near the edge."""
    size = 2 * pixels + 1
    padded = torch.nn.functional.pad((~masks).float(), [pixels] * 4, value=1.0)
    return torch.nn.functional.max_pool2d(padded, size, 1) == 0


@pytest.mark.parametrize("degrees", [-15.0, 4.0, 15.0])
def test_rotating_and_cropping_at_once_equals_torchvision(degrees: float) -> None:
    noise = torch.randint(0, 256, (3, 15, 25), dtype=torch.uint8)
    picture = F.resize(noise, [90, 150])
    masks = picture[:2] > 128
    top, left = 20, 33
    whole = F.rotate(picture, degrees, InterpolationMode.BILINEAR), F.rotate(masks, degrees)
    image, objects = (each[:, top : top + 48, left : left + 80] for each in whole)
    turned_image, turned_objects = _turned(picture, masks, degrees, top, left, (48, 80))
    inside = F.rotate(torch.ones(1, 90, 150), degrees)[0, top : top + 48, left : left + 80] == 1
    inside = eroded(inside[None], 1)[0]
    difference = (turned_image.int() - image.int()).abs()[:, inside]
    assert difference.max() <= 1
    assert (turned_objects == objects).float().mean() > 0.999


def test_frames_of_a_clip_turn_independently() -> None:
    picture, mask = picture_with_mask(60, 100)
    augmentation = Augmentation(SIZE, (60,), rotation=15)
    random, drawn = generator(), ClipDraw(False, 60)
    first, second = (augment(random, augmentation, drawn, picture, mask)[0] for _ in range(2))
    assert not torch.equal(first, second)


def test_only_a_short_side_keeps_the_aspect() -> None:
    picture = torch.zeros(3, 60, 100, dtype=torch.uint8)
    picture[:, :, :50] = 200
    mask = torch.ones(1, 60, 100, dtype=torch.bool)
    for side, filled in ((None, False), (30, True)):
        augmentation = Augmentation(SIZE, (side,) if side else ())
        _, masks = augment(generator(), augmentation, ClipDraw(False, side), picture, mask)
        assert bool((~masks).any()) == filled
    assert masks[0].nonzero().amax(dim=0).tolist() == [29, 49]  # 30 x 50 pixels


class Numbers(Dataset[TrainingClip]):
    """Clips without pixels, whose class is their number."""

    def __init__(self, name: int) -> None:
        self.name = name

    def __getitem__(self, number: int) -> TrainingClip:
        return TrainingClip(torch.empty(0), torch.tensor([self.name, number]), torch.empty(0))


def test_shares_are_exact_and_no_clip_is_left_out() -> None:
    mixed = MixedClips([(Numbers(0), 3.0), (Numbers(1), 1.0)], seed=4)
    drawn = [tuple(mixed[number].classes.tolist()) for number in range(400)]
    assert Counter(name for name, _ in drawn) == {0: 300, 1: 100}
    for name, count in ((0, 300), (1, 100)):
        assert [n for which, n in drawn if which == name] == list(range(count))
    assert [name for name, _ in drawn[:100]] != [name for name, _ in drawn[100:200]]
    with pytest.raises(VisoloError, match="share"):
        MixedClips([(Numbers(0), 0.0)], seed=4)


def test_drawn_clips_are_numbered() -> None:
    clips = DrawnClips(SIZE, Sampling(reach=4), seed=3)
    first, again, other = clips[7], clips[7], clips[8]
    assert torch.equal(first.frames, again.frames)
    assert torch.equal(first.masks, again.masks)
    assert not torch.equal(first.frames, other.frames)
    assert first.frames.shape == (3, 3, *SIZE)
    whole = draw_clip(3, 7, 5, *SIZE)
    for frame, masks in zip(first.frames, first.masks, strict=True):
        same = [np.array_equal(frame.permute(1, 2, 0), each) for each in whole.frames]
        assert any(same)
        assert np.array_equal(masks, whole.masks[same.index(True)])
