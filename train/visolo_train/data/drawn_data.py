"""A data set of drawn videos that is never written to disk."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from visolo_core.categories import SHAPES
from visolo_core.masks import encode_rle
from visolo_runtime.sources.clip import Clip, Skipped, SourceFrame, at_constant_rate
from visolo_train.data.annotations import AnnotatedTrack, Annotations, Video
from visolo_train.data.synthetic import draw_clip

_RATE = Fraction(30)


def drawn_data(
    seed: int, videos: int, frames: int, size: tuple[int, int]
) -> tuple[Annotations, list[Clip]]:
    """Videos to run a model on, and the ground truth to score it against.

    Args:
        seed: of the data set.
        videos: how many.
        frames: of each.
        size: (height, width).
    """
    listed, tracks = [], []
    for number in range(videos):
        listed.append(Video(number + 1, *size, tuple(str(frame) for frame in range(frames))))
        drawn = draw_clip(seed, number, frames, *size)
        for index, category in enumerate(drawn.category_ids):
            masks = drawn.masks[:, index]
            if masks.any():
                rles = tuple(encode_rle(mask) if mask.any() else None for mask in masks)
                tracks.append(AnnotatedTrack(number + 1, category, rles))
    clips = [drawn_clip(seed, number, frames, size) for number in range(videos)]
    return Annotations(SHAPES, tuple(listed), tuple(tracks)), clips


def drawn_clip(seed: int, number: int, frames: int, size: tuple[int, int]) -> Clip:
    """One drawn video as a source; its frames are drawn when they are read."""

    def play() -> Iterator[SourceFrame | Skipped]:
        yield from at_constant_rate(draw_clip(seed, number, frames, *size).frames, _RATE)

    return Clip(number + 1, f"drawn video {number}", play, _RATE, frames)
