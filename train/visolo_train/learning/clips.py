"""Training clips: which frames of which video, read or drawn, in one shape.

A clip is a pure function of the seed and its number, so an interrupted training continues with
exactly the clips that it would have seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from visolo_core.categories import LabelSet
from visolo_core.errors import VisoloError
from visolo_core.files import inside
from visolo_core.masks import decode_rle
from visolo_runtime.sources.clip import Skipped
from visolo_runtime.sources.pictures import read_image
from visolo_train.data.annotations import AnnotatedTrack, Annotations, Video, check_categories
from visolo_train.data.pasting import PastedClips
from visolo_train.data.synthetic import draw_clip
from visolo_train.learning.augmentation import Augmentation, augment, channels_first, draw_for_clip

NO_CLASSES = torch.empty(0, dtype=torch.int64)


class TrainingClip(NamedTuple):
    """F frames of a video and the L objects in it."""

    frames: Tensor
    """uint8 [F, 3, H, W] RGB"""
    classes: Tensor
    """int64 [L], class indices"""
    masks: Tensor
    """bool [F, L, H, W]; empty where an object is not visible"""
    unsure: Tensor = NO_CLASSES
    """int64 [U], classes of which more objects may be in view than the L"""


@dataclass(frozen=True)
class Sampling:
    """Which frames make a clip."""

    frames: int = 3
    """Frames of a clip, drawn with replacement."""
    reach: int = 20
    """How far a frame may lie from the clip's reference frame, to either side."""


class AnnotatedClips(Dataset[TrainingClip]):
    """Endless clips of annotated videos, by number; an image of COCO is a video of one frame.

    Args:
        annotations: the data set.
        images: folder of its frames.
        labels: of the network; the data set's categories must be among them.
        sampling: which frames make a clip.
        augmentation: what is done to them.
        seed: another seed gives other clips.

    Raises:
        VisoloError: if a category is not among the labels.
    """

    def __init__(
        self,
        annotations: Annotations,
        images: Path,
        labels: LabelSet,
        sampling: Sampling,
        augmentation: Augmentation,
        seed: int,
    ) -> None:
        check_categories(annotations.labels, labels)
        self._images = images
        self._sampling = sampling
        self._augmentation = augmentation
        self._seed = seed
        self._classes = {number: at for at, number in enumerate(labels.ids)}
        tracks: dict[int, list[AnnotatedTrack]] = {}
        for track in annotations.tracks:
            if track.is_object:
                tracks.setdefault(track.video_id, []).append(track)
        self._videos = [
            (video, tracks[video.video_id])
            for video in annotations.videos
            if video.video_id in tracks
        ]
        self.left_out = tuple(v.video_id for v in annotations.videos if v.video_id not in tracks)
        """Ids of the videos without an object to learn from."""

    def __len__(self) -> int:
        return len(self._videos)

    def __getitem__(self, number: int) -> TrainingClip:
        """Clip ``number``, 0 or more; each round over the videos has its own order."""
        round_number, place = divmod(number, len(self._videos))
        order = numbered_random(self._seed, round_number, 0).permutation(len(self._videos))
        video, tracks = self._videos[order[place]]
        random = numbered_random(self._seed, number, 1)
        positions = self._positions(random, video, tracks)
        drawn = draw_for_clip(random, self._augmentation)
        frames, masks = [], []
        for position in positions:
            picture, objects = self._picture(video, position), _objects(video, tracks, position)
            if picture.shape[1:] != objects.shape[1:]:
                raise VisoloError(
                    f"the frame '{video.file_names[position]}' in '{self._images}' is "
                    f"{picture.shape[2]}x{picture.shape[1]}, its annotation says "
                    f"{video.width}x{video.height}"
                )
            frame, visible = augment(random, self._augmentation, drawn, picture, objects)
            frames.append(frame)
            masks.append(visible)
        classes = torch.tensor([self._classes[track.category_id] for track in tracks])
        return TrainingClip(torch.stack(frames), classes, torch.stack(masks))

    def _positions(
        self, random: np.random.Generator, video: Video, tracks: list[AnnotatedTrack]
    ) -> NDArray[np.int64]:
        """Frames around one that shows an object, in temporal order."""
        count = len(video.file_names)
        annotated = [at for at in range(count) if any(track.segmentations[at] for track in tracks)]
        reference = int(random.choice(annotated)) if annotated else int(random.integers(count))
        low = max(0, reference - self._sampling.reach)
        high = min(count - 1, reference + self._sampling.reach)
        others = random.integers(low, high + 1, self._sampling.frames - 1)
        return np.sort(np.append(others, reference))

    def _picture(self, video: Video, position: int) -> Tensor:
        path = inside(self._images, video.file_names[position])
        picture = read_image(path)
        if isinstance(picture, Skipped):
            raise VisoloError(f"cannot read the frame '{path}': {picture.reason}")
        return channels_first(np.array(picture))


def _objects(video: Video, tracks: list[AnnotatedTrack], position: int) -> Tensor:
    """bool [L, h, w], what is visible of each object."""
    masks = torch.zeros(len(tracks), video.height, video.width, dtype=torch.bool)
    for mask, track in zip(masks, tracks, strict=True):
        rle = track.segmentations[position]
        if rle is not None:
            mask.copy_(torch.from_numpy(decode_rle(rle)))
    return masks


class DrawnClips(Dataset[TrainingClip]):
    """Clips drawn on demand: no two alike, nothing on disk, endless.

    Args:
        size: (H, W) of the frames.
        sampling: which frames make a clip.
        seed: of the videos.
    """

    def __init__(self, size: tuple[int, int], sampling: Sampling, seed: int) -> None:
        self._size = size
        self._sampling = sampling
        self._seed = seed

    def __getitem__(self, number: int) -> TrainingClip:
        """Clip ``number``, 0 or more."""
        span, positions = _of_a_span(self._seed, number, self._sampling)
        clip = draw_clip(self._seed, number, span, *self._size, positions)
        return TrainingClip(
            torch.from_numpy(clip.frames).permute(0, 3, 1, 2),
            torch.tensor(clip.category_ids) - 1,
            torch.from_numpy(clip.masks),
        )


class ComposedClips(Dataset[TrainingClip]):
    """Clips composed on demand from a data set's objects and other pictures; endless.

    Args:
        pasted: what they are composed of.
        labels: of the network; the data set's categories must be among them.
        size: (H, W) of the frames.
        sampling: which frames make a clip.
        seed: of the clips.
        always_annotated: names of labels of which every object is annotated, also in pictures that
            are annotated in part.

    Raises:
        VisoloError: if a category or a name is not among the labels.
    """

    def __init__(
        self,
        pasted: PastedClips,
        labels: LabelSet,
        size: tuple[int, int],
        sampling: Sampling,
        seed: int,
        always_annotated: Sequence[str] = (),
    ) -> None:
        check_categories(pasted.labels, labels)
        self._pasted = pasted
        self._size = size
        self._sampling = sampling
        self._seed = seed
        self._classes = {number: at for at, number in enumerate(labels.ids)}
        self._sure = {at for name in always_annotated for at in labels.classes_named(name)}

    def __getitem__(self, number: int) -> TrainingClip:
        """Clip ``number``, 0 or more."""
        span, positions = _of_a_span(self._seed, number, self._sampling)
        clip = self._pasted.draw(self._seed, number, span, *self._size, positions)
        return TrainingClip(
            torch.from_numpy(clip.frames).permute(0, 3, 1, 2),
            torch.tensor([self._classes[each] for each in clip.category_ids], dtype=torch.int64),
            torch.from_numpy(clip.masks),
            self._unsure(clip.annotated),
        )

    def _unsure(self, annotated: tuple[int, ...] | None) -> Tensor:
        """The classes that a picture may show without an annotation."""
        if annotated is None:
            return NO_CLASSES
        return torch.tensor(
            [
                at
                for number, at in self._classes.items()
                if number not in annotated and at not in self._sure
            ],
            dtype=torch.int64,
        )


def _of_a_span(seed: int, number: int, sampling: Sampling) -> tuple[int, list[int]]:
    """The length of a clip that is made, and the frames of it that are used, in order."""
    random = numbered_random(seed, number, 2)
    span = sampling.reach + 1
    reference = int(random.integers(span))
    others = random.integers(0, span, sampling.frames - 1)
    return span, np.sort(np.append(others, reference)).tolist()


class MixedClips(Dataset[TrainingClip]):
    """Clips of several data sets in fixed shares.

    Args:
        parts: data sets with their shares; the shares are relative to their sum.
        seed: of the order.

    Raises:
        VisoloError: if no share is above 0.
    """

    _BLOCK = 100  # clips; the shares hold exactly in every block

    def __init__(self, parts: Sequence[tuple[Dataset[TrainingClip], float]], seed: int) -> None:
        total = sum(share for _, share in parts)
        if not total > 0:
            raise VisoloError("no data set has a share above 0")
        ends = np.rint(np.cumsum([share / total * self._BLOCK for _, share in parts]))
        self._counts = np.diff(ends, prepend=0).astype(int)
        self._parts = [part for part, _ in parts]
        self._seed = seed

    def __getitem__(self, number: int) -> TrainingClip:
        """Clip ``number``, 0 or more."""
        block, place = divmod(number, self._BLOCK)
        order = np.repeat(np.arange(len(self._parts)), self._counts)
        order = numbered_random(self._seed, block, 3).permutation(order)
        part = int(order[place])
        before = int((order[:place] == part).sum())
        return self._parts[part][block * int(self._counts[part]) + before]


def numbered_random(seed: int, number: int, purpose: int) -> np.random.Generator:
    """Random numbers for one number and purpose: 0 the order of a round, 1 a clip,
    2 a drawn or composed clip, 3 the order of a block."""
    key = np.array([seed, 4 * number + purpose], np.uint64)
    return np.random.Generator(np.random.Philox(key=key))
