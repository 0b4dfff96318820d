"""The clips of a report: how well each is tracked, and pictures of some."""

from __future__ import annotations

import base64
import io
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from visolo_core.categories import LabelSet
from visolo_core.files import inside
from visolo_core.instances import Instances
from visolo_core.masks import Masks, decode_rle, resize_masks
from visolo_runtime.sinks.drawing import draw_instances
from visolo_runtime.sources.clip import Skipped
from visolo_runtime.sources.pictures import read_image
from visolo_runtime.video.frames import Picture
from visolo_train.data.annotations import AnnotatedTrack, Annotations, Video
from visolo_train.evaluation.scoring import track_overlaps

PICTURES_PER_CLIP = 4
_PICTURE_PIXELS = 360 * 240  # keeps the page small whatever the size of the videos
_JPEG_QUALITY = 80
_GREY = 96


@dataclass(frozen=True)
class ClipQuality:
    """How well the objects of a clip are tracked."""

    video: Video
    objects: int
    """Annotated objects, crowds not counted."""
    quality: float
    """Mean over the objects of the IoU, over the whole clip, with the best track of the same
    category; 0 for an object without a track. False alarms do not lower it."""


@dataclass(frozen=True)
class Drawn:
    """A frame of a clip as a picture."""

    frame: int
    """Position in the clip, from 0."""
    jpeg: bytes
    unreadable: str = ""
    """Why the frame could not be read and is drawn grey; empty if it was read."""

    @property
    def data_uri(self) -> str:
        """The picture as a data URI."""
        return "data:image/jpeg;base64," + base64.b64encode(self.jpeg).decode()


def rank_clips(annotations: Annotations, tracks: Sequence[AnnotatedTrack]) -> list[ClipQuality]:
    """The clips that have an annotated object, worst first.

    Args:
        annotations: the data set.
        tracks: results for it; all of them count.
    """
    objects, guesses = defaultdict(list), defaultdict(list)
    for track in annotations.tracks:
        if not track.crowd and any(track.segmentations):
            objects[track.video_id].append(track)
    for track in tracks:
        guesses[track.video_id].append(track)
    ranked = []
    for video in annotations.videos:
        truth = objects[video.video_id]
        if truth:
            quality = float(np.mean(_best_overlaps(truth, guesses[video.video_id])))
            ranked.append(ClipQuality(video, len(truth), quality))
    return sorted(ranked, key=lambda clip: (clip.quality, clip.video.video_id))


def _best_overlaps(
    truth: list[AnnotatedTrack], guesses: list[AnnotatedTrack]
) -> NDArray[np.float64]:
    """float64 [N]: of each object, with the best-matching track of its category."""
    overlaps = track_overlaps(
        [track.segmentations for track in truth], [track.segmentations for track in guesses]
    )
    category, guessed = (
        np.array([each.category_id for each in tracks], int) for tracks in (truth, guesses)
    )
    overlaps[category[:, None] != guessed] = 0
    return np.asarray(overlaps.max(axis=1, initial=0))


def draw_results(
    video: Video,
    truth: Sequence[AnnotatedTrack],
    tracks: Sequence[AnnotatedTrack],
    labels: LabelSet,
    images: Path,
) -> list[Drawn]:
    """Pictures of a clip: tracks as coloured masks, the truth as white outlines.

    The frames are spread evenly over those that have an annotated object; only they are read.

    Args:
        video: the clip.
        truth: its annotated objects.
        tracks: its results, numbered from 1 as they come.
        labels: of the data set.
        images: folder of the frames.

    Raises:
        VisoloError: if a frame's name leads out of the folder.
    """
    frames = len(video.file_names)
    annotated = [at for at in range(frames) if any(track.segmentations[at] for track in truth)]
    places = np.linspace(0, len(annotated) - 1, min(PICTURES_PER_CLIP, len(annotated)))
    return [
        _draw_frame(video, annotated[round(place)], truth, tracks, labels, images)
        for place in places
    ]


def _draw_frame(
    video: Video,
    frame: int,
    truth: Sequence[AnnotatedTrack],
    tracks: Sequence[AnnotatedTrack],
    labels: LabelSet,
    images: Path,
) -> Drawn:
    shrink = min(1.0, (_PICTURE_PIXELS / (video.width * video.height)) ** 0.5)
    size = max(1, round(video.height * shrink)), max(1, round(video.width * shrink))
    read = read_image(inside(images, video.file_names[frame]))
    picture = np.full((*size, 3), _GREY, np.uint8)
    if not isinstance(read, Skipped):
        picture = np.array(Image.fromarray(read).resize((size[1], size[0]), Image.Resampling.BOX))
    picture = draw_instances(picture, _instances(tracks, frame, labels, size)).copy()
    for mask in _masks([track for track in truth if track.segmentations[frame]], frame, size):
        _outline(picture, mask)
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=_JPEG_QUALITY)
    why = read.reason if isinstance(read, Skipped) else ""
    return Drawn(frame, buffer.getvalue(), why)


def _instances(
    tracks: Sequence[AnnotatedTrack], frame: int, labels: LabelSet, size: tuple[int, int]
) -> Instances:
    """The tracks present in a frame, best first, at a picture's size."""
    numbered = [each for each in enumerate(tracks, start=1) if each[1].segmentations[frame]]
    numbered.sort(key=lambda each: -each[1].score)
    present = [track for _, track in numbered]
    label = np.array([labels.ids.index(track.category_id) for track in present], np.int64)
    score = np.array([track.score for track in present], np.float32)
    return Instances(
        frame=frame,
        size=size,
        labels=labels,
        tracker_id=np.array([number for number, _ in numbered], np.int64),
        class_id=label,
        confidence=score,
        track_class_id=label,
        track_confidence=score,
        cell=np.zeros(len(present), np.int64),
        input_masks=_masks(present, frame, size).view(np.uint8),
    )


def _masks(tracks: Sequence[AnnotatedTrack], frame: int, size: tuple[int, int]) -> Masks:
    """bool [N, height, width] of tracks that are all present in the frame."""
    rles = [rle for track in tracks if (rle := track.segmentations[frame]) is not None]
    masks = [resize_masks(decode_rle(rle)[None], size)[0] for rle in rles]
    return np.stack(masks) if masks else np.zeros((0, *size), bool)


def _outline(picture: Picture, mask: Masks) -> None:
    """A white line inside the edge of a mask [h, w] and a black one outside, visible on any
    background."""
    around = np.pad(mask, 1)
    beside = [around[1:-1, :-2], around[1:-1, 2:], around[:-2, 1:-1], around[2:, 1:-1]]
    picture[~mask & np.logical_or.reduce(beside)] = 0
    picture[mask & ~np.logical_and.reduce(beside)] = 255
