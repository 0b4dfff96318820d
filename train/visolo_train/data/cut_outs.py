"""Pictures and the objects that can be cut out of them, decoded once and remembered."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from visolo_core.errors import VisoloError
from visolo_core.files import inside
from visolo_core.masks import decode_rle, mask_box
from visolo_runtime.sources.clip import Skipped
from visolo_runtime.sources.pictures import read_image
from visolo_runtime.video.frames import Picture
from visolo_train.data.annotations import AnnotatedTrack, Annotations, Video

_SMALLEST = 24  # pixels: cut-outs with a shorter diagonal are too small to recognise


class CutOut(NamedTuple):
    """An object in one frame."""

    pixels: Picture
    """uint8 [h, w, 4], RGB and opacity"""
    cut: tuple[bool, bool, bool, bool]
    """Whether it reaches the left, top, right and bottom edge of its frame, so that part of it may
    be missing there."""


@dataclass(frozen=True)
class Source:
    """A track whose object can be cut out."""

    video: Video
    track: AnnotatedTrack
    visible: tuple[int, ...]
    """Positions of the frames that show it."""


class Pictures:
    """Pictures of one folder, the latest ones decoded in memory.

    Args:
        folder: of the files.
        limit: bytes of decoded pictures to remember.
    """

    def __init__(self, folder: Path, limit: int = 1_500_000_000) -> None:
        self._folder = folder
        self._limit = limit
        self._size = 0
        self._pictures: OrderedDict[str, Picture] = OrderedDict()

    def read(self, name: str) -> Picture:
        """uint8 [h, w, 3] RGB; it must not be changed.

        Raises:
            VisoloError: if it cannot be read.
        """
        known = self._pictures.get(name)
        if known is not None:
            self._pictures.move_to_end(name)
            return known
        picture = read_image(inside(self._folder, name))
        if isinstance(picture, Skipped):
            raise VisoloError(f"cannot read the frame {picture.reason}")
        self._pictures[name] = picture
        self._size += picture.nbytes
        while self._size > self._limit and len(self._pictures) > 1:
            self._size -= self._pictures.popitem(last=False)[1].nbytes
        return picture


class Stock:
    """The frames of a data set, with the objects in them.

    Args:
        annotations: the data set.
        images: folder of its frames.
    """

    def __init__(self, annotations: Annotations, images: Path) -> None:
        videos = {video.video_id: video for video in annotations.videos}
        crowded = {track.video_id for track in annotations.tracks if track.crowd}
        self._pictures = Pictures(images)
        self.sources = [
            Source(videos[track.video_id], track, visible)
            for track in annotations.tracks
            if not track.crowd and (visible := _visible(track))
        ]
        self.tracks: dict[int, list[AnnotatedTrack]] = {}
        """By video."""
        for source in self.sources:
            self.tracks.setdefault(source.video.video_id, []).append(source.track)
        self.complete = [
            video
            for video in annotations.videos
            if video.exhaustive and video.video_id not in crowded
        ]
        """Videos in which everything is annotated."""
        self.with_objects = [v for v in annotations.videos if v.video_id in self.tracks]

    def frame(self, video: Video, position: int) -> Picture:
        """uint8 [h, w, 3].

        Raises:
            VisoloError: if it cannot be read, or does not have the annotated size.
        """
        name = video.file_names[position]
        picture = self._pictures.read(name)
        if picture.shape[:2] != (video.height, video.width):
            raise VisoloError(
                f"the frame '{name}' is {picture.shape[1]}x{picture.shape[0]}, its annotation "
                f"says {video.width}x{video.height}"
            )
        return picture

    def owners(self, video: Video, position: int) -> NDArray[np.uint8]:
        """uint8 [h, w]: 0, or which of the video's tracks a pixel belongs to, counted from 1; where
        masks overlap, to the later one."""
        owners = np.zeros((video.height, video.width), np.uint8)
        for number, track in enumerate(self.tracks.get(video.video_id, []), 1):
            rle = track.segmentations[position]
            if rle is not None:
                owners[decode_rle(rle)] = number
        return owners

    def mask(self, source: Source, position: int) -> NDArray[np.bool_]:
        """bool [h, w] of the object in a frame that shows it."""
        rle = source.track.segmentations[position]
        assert rle is not None
        return decode_rle(rle)

    def cut_out(self, source: Source, position: int) -> CutOut | None:
        """The object in one frame that shows it; None if it is too small there."""
        mask = self.mask(source, position)
        box = mask_box(mask)
        if box is None or np.hypot(box[2] - box[0], box[3] - box[1]) < _SMALLEST:
            return None
        left, top, right, bottom = box
        part = np.s_[top:bottom, left:right]
        opacity = mask[part] * np.uint8(255)
        pixels = np.dstack([self.frame(source.video, position)[part], opacity])
        height, width = mask.shape
        edge = 1 + min(height, width) // 100  # pixels: contours often end shortly before the edge
        cut = (left < edge, top < edge, right > width - edge, bottom > height - edge)
        return CutOut(pixels, cut)


def _visible(track: AnnotatedTrack) -> tuple[int, ...]:
    return tuple(at for at, rle in enumerate(track.segmentations) if rle is not None)


def there_and_back(place: int, length: int) -> int:
    """Position after ``place`` steps of an endless walk 0, 1, ... length - 1 and back."""
    if length == 1:
        return 0
    place %= 2 * (length - 1)
    return min(place, 2 * (length - 1) - place)
