"""Training clips out of a YouTube-VIS data set: which frames, read and put into one shape.

A sample is a pure function of the seed and its number, so an interrupted training goes on with
exactly the clips that it would have seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from visolo_core.errors import VisoloError
from visolo_core.files import inside
from visolo_core.masks import decode_rle, resize_masks
from visolo_train.annotations import AnnotatedTrack, Annotations, Video


class TrainingClip(NamedTuple):
    """F frames of a video and the L objects in it."""

    frames: Tensor
    """uint8 [F, 3, H, W] RGB"""
    classes: Tensor
    """int64 [L], class indices"""
    masks: Tensor
    """bool [F, L, H, W]; empty where an object is not visible"""


@dataclass(frozen=True)
class Sampling:
    """How clips are drawn."""

    input_size: tuple[int, int]
    """(H, W) that frames and masks are resized to; the aspect ratio is not kept."""
    frames: int = 3
    """Frames of a clip, drawn with replacement."""
    reach: int = 20
    """How far a frame may lie from the clip's reference frame, to either side."""
    flip: bool = True
    """Mirror half of the clips."""


class ClipDataset(Dataset[TrainingClip]):
    """Endless training clips, by number.

    Args:
        annotations: the data set.
        images: folder of its frames.
        sampling: how clips are drawn.
        seed: another seed gives other clips.

    Raises:
        VisoloError: if no video has an object that is not a crowd.
    """

    def __init__(
        self, annotations: Annotations, images: Path, sampling: Sampling, seed: int
    ) -> None:
        self._images = images
        self._sampling = sampling
        self._seed = seed
        self._classes = {number: at for at, number in enumerate(annotations.labels.ids)}
        tracks: dict[int, list[AnnotatedTrack]] = {}
        for track in annotations.tracks:
            if not track.crowd:
                tracks.setdefault(track.video_id, []).append(track)
        self._videos = [
            (video, tracks[video.video_id])
            for video in annotations.videos
            if video.video_id in tracks
        ]
        if not self._videos:
            raise VisoloError("the data set has no video with an object to learn from")

    def __len__(self) -> int:
        return len(self._videos)

    def __getitem__(self, number: int) -> TrainingClip:
        """Sample ``number``, which may be any: each round over the videos has its own order."""
        round_number, place = divmod(number, len(self._videos))
        order = self._random(round_number, 0).permutation(len(self._videos))
        video, tracks = self._videos[order[place]]
        random = self._random(number, 1)
        positions = self._positions(random, video, tracks)
        mirrored = self._sampling.flip and random.random() < 0.5
        frames = np.stack([self._read(video, position, mirrored) for position in positions])
        masks = np.stack([self._masks(tracks, position, mirrored) for position in positions])
        classes = torch.tensor([self._classes[track.category_id] for track in tracks])
        return TrainingClip(
            torch.from_numpy(frames).permute(0, 3, 1, 2), classes, torch.from_numpy(masks)
        )

    def _random(self, number: int, purpose: int) -> np.random.Generator:
        key = np.array([self._seed, 2 * number + purpose], np.uint64)
        return np.random.Generator(np.random.Philox(key=key))

    def _positions(
        self, random: np.random.Generator, video: Video, tracks: list[AnnotatedTrack]
    ) -> NDArray[np.int64]:
        """Frames around one that shows something, in the order of time."""
        count = len(video.file_names)
        shown = [at for at in range(count) if any(track.segmentations[at] for track in tracks)]
        reference = int(random.choice(shown)) if shown else int(random.integers(count))
        low = max(0, reference - self._sampling.reach)
        high = min(count - 1, reference + self._sampling.reach)
        others = random.integers(low, high + 1, self._sampling.frames - 1)
        return np.sort(np.append(others, reference))

    def _read(self, video: Video, position: int, mirrored: bool) -> NDArray[np.uint8]:
        path = inside(self._images, video.file_names[position])
        try:
            with Image.open(path) as image:
                size = self._sampling.input_size[::-1]
                picture = np.asarray(image.convert("RGB").resize(size, Image.Resampling.BILINEAR))
        except (OSError, ValueError) as error:
            raise VisoloError(f"cannot read the frame '{path}': {error}") from error
        return np.ascontiguousarray(picture[:, ::-1]) if mirrored else picture

    def _masks(
        self, tracks: list[AnnotatedTrack], position: int, mirrored: bool
    ) -> NDArray[np.bool_]:
        masks = np.zeros((len(tracks), *self._sampling.input_size), bool)
        for mask, track in zip(masks, tracks, strict=True):
            rle = track.segmentations[position]
            if rle is not None:
                mask[:] = resize_masks(decode_rle(rle)[None], self._sampling.input_size)[0]
        return np.ascontiguousarray(masks[..., ::-1]) if mirrored else masks
