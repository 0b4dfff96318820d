"""Annotated videos of real pixels: cut-outs of a data set's objects move over its other frames.

The lowest layer is a piece of a video, or an image under a moving window, with the objects that
are annotated in it. Above it are cut-outs in layers, each on its own path; a
cut-out of a video keeps moving as it did there. Pixels covered by a higher layer are removed from
the masks below, so that masks are exact under any occlusion.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from visolo_core.errors import VisoloError
from visolo_core.files import inside
from visolo_core.masks import decode_rle
from visolo_runtime.video.frames import Picture
from visolo_runtime.video.sources import Skipped, read_image
from visolo_train.data.annotations import AnnotatedTrack, Annotations, Video
from visolo_train.data.synthetic import (
    MAX_OBJECTS,
    TWIN_SHARE,
    Bits,
    ObjectPath,
    Random,
    SyntheticClip,
    draw_path,
)

_SMALLEST = 24  # pixels: cut-outs with a shorter diagonal are too small to recognise
_REMEMBERED = 128  # pictures


@dataclass(frozen=True)
class _CutOut:
    """An object of one video, to be pasted onto another."""

    video: Video
    track: AnnotatedTrack
    start: int
    """The first of its frames that is shown."""
    mirrored: bool
    tilt: float
    """Radians."""


class PastedClips:
    """Clips by number, composed from a data set.

    Args:
        annotations: the data set. Backdrops are its videos in which everything is annotated:
            neither marked as not ``exhaustive`` nor with a crowd.
        images: folder of its frames.

    Raises:
        VisoloError: if it has nothing to cut out or no backdrop.
    """

    def __init__(self, annotations: Annotations, images: Path) -> None:
        self.labels = annotations.labels
        self._read = lru_cache(_REMEMBERED)(lambda name: _picture(images, name))
        videos = {video.video_id: video for video in annotations.videos}
        crowded = {track.video_id for track in annotations.tracks if track.crowd}
        self._objects = [
            (videos[track.video_id], track)
            for track in annotations.tracks
            if not track.crowd and any(track.segmentations)
        ]
        self._backdrops = [
            video
            for video in annotations.videos
            if video.exhaustive and video.video_id not in crowded
        ]
        if not self._objects or not self._backdrops:
            lacking = "object to cut out" if not self._objects else "video annotated in full"
            raise VisoloError(f"'{annotations.labels.name}' has no {lacking}")
        self._tracks: dict[int, list[AnnotatedTrack]] = {}
        for _, track in self._objects:
            self._tracks.setdefault(track.video_id, []).append(track)

    def draw(self, seed: int, number: int, frames: int, height: int, width: int) -> SyntheticClip:
        """One video: a pure function of the seed, its number, and the size.

        Raises:
            VisoloError: if a frame cannot be read, or does not have the annotated size.
        """
        random = np.random.Generator(np.random.Philox(key=np.array([seed, number], np.uint64)))
        window = _Window(random, frames, height, width)
        backdrop = self._backdrops[int(random.integers(len(self._backdrops)))]
        begin = int(random.integers(len(backdrop.file_names)))
        count = int(random.integers(1, MAX_OBJECTS + 1))
        cut_outs = [self._cut_out(random) for _ in range(count)]
        if count > 1 and random.random() < TWIN_SHARE:
            cut_outs[1] = cut_outs[0]
        paths = [draw_path(random, frames, height, width) for _ in range(count)]

        below = self._tracks.get(backdrop.video_id, [])
        tracks = below + [cut_out.track for cut_out in cut_outs]
        video = np.empty((frames, height, width, 3), np.uint8)
        masks = np.zeros((frames, len(tracks), height, width), bool)
        for at in range(frames):
            position = _there_and_back(begin + at, len(backdrop.file_names))
            video[at] = window.view(self._frame(backdrop, position), at)
            for index, track in enumerate(below):
                rle = track.segmentations[position]
                if rle is not None:
                    masks[at, index] = window.view(decode_rle(rle), at)
            for index, (cut_out, path) in enumerate(zip(cut_outs, paths, strict=True), len(below)):
                self._paste(video[at], masks[at], index, cut_out, path, at)
        return SyntheticClip(video, tuple(track.category_id for track in tracks), masks)

    def _cut_out(self, random: Random) -> _CutOut:
        video, track = self._objects[int(random.integers(len(self._objects)))]
        visible = [at for at, rle in enumerate(track.segmentations) if rle is not None]
        return _CutOut(
            video,
            track,
            start=int(random.integers(len(visible))),
            mirrored=bool(random.random() < 0.5),
            tilt=float(random.uniform(-0.3, 0.3)),
        )

    def _paste(
        self, image: Picture, masks: Bits, index: int, cut_out: _CutOut, path: ObjectPath, at: int
    ) -> None:
        """Paste a cut-out onto an image [H, W, 3], and into the masks [L, H, W] of the frame."""
        visible = [p for p, rle in enumerate(cut_out.track.segmentations) if rle is not None]
        position = visible[_there_and_back(cut_out.start + at, len(visible))]
        rle = cut_out.track.segmentations[position]
        assert rle is not None
        mask = decode_rle(rle)
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if not rows.size or np.hypot(len(rows), len(columns)) < _SMALLEST:
            return
        box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        layer = np.dstack([self._frame(cut_out.video, position)[box], mask[box] * np.uint8(255)])
        if cut_out.mirrored:
            layer = layer[:, ::-1]
        swing = cut_out.tilt + 0.3 * float(np.sin(path.angle[at] - path.angle[0]))
        layer = _placed(layer, path.centre[at], 2.5 * path.radius[at], swing, image.shape[:2])
        opacity = layer[..., 3:].astype(np.float32) / 255
        image[:] = np.rint(image * (1 - opacity) + layer[..., :3] * opacity)
        shape = opacity[..., 0] >= 0.5
        masks[:index] &= ~shape
        masks[index] = shape

    def _frame(self, video: Video, position: int) -> Picture:
        name = video.file_names[position]
        picture: Picture = self._read(name)
        if picture.shape[:2] != (video.height, video.width):
            raise VisoloError(
                f"the frame '{name}' is {picture.shape[1]}x{picture.shape[0]}, its annotation "
                f"says {video.width}x{video.height}"
            )
        return picture


class _Window:
    """The visible part of a backdrop; it moves and stays inside it."""

    def __init__(self, random: Random, frames: int, height: int, width: int) -> None:
        self._size = height, width
        self._zoom = float(random.uniform(1.0, 1.3))
        ends = random.random((2, 2))  # first and last place, as shares of the free margin
        time = np.linspace(0, 1, frames)[:, None]
        self._place = ends[0] * (1 - time) + ends[1] * time

    def view(self, picture: NDArray[np.generic], frame: int) -> NDArray[np.generic]:
        """uint8 [h, w, 3] or bool [h, w] as seen, at the size of the clip."""
        height, width = self._size
        scale = self._zoom * max(height / picture.shape[0], width / picture.shape[1])
        rows, columns = height / scale, width / scale  # of the picture
        top = self._place[frame, 0] * (picture.shape[0] - rows)
        left = self._place[frame, 1] * (picture.shape[1] - columns)
        method = Image.Resampling.NEAREST if picture.dtype == bool else Image.Resampling.BILINEAR
        image = Image.fromarray(picture.astype(np.uint8) if picture.dtype == bool else picture)
        box = (left, top, left + columns, top + rows)
        return np.asarray(image.resize((width, height), method, box)).astype(picture.dtype)


def _placed(
    layer: Picture,
    centre: NDArray[np.float64],
    diagonal: float,
    angle: float,
    size: tuple[int, ...],
) -> Picture:
    """A cut-out [h, w, 4] on an empty frame [H, W, 4].

    Args:
        layer: RGB and opacity.
        centre: y, x of its middle in the frame.
        diagonal: its length in the frame, in pixels.
        angle: radians.
        size: H, W.
    """
    scale = diagonal / float(np.hypot(*layer.shape[:2]))
    small = tuple(max(1, round(side * scale)) for side in layer.shape[1::-1])
    image = Image.fromarray(np.ascontiguousarray(layer)).resize(small, Image.Resampling.BILINEAR)
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    (y, x), (middle_x, middle_y) = centre, (small[0] / 2, small[1] / 2)
    back = (
        cos, sin, middle_x - cos * x - sin * y,
        -sin, cos, middle_y + sin * x - cos * y,
    )  # fmt: skip
    width, height = size[1], size[0]
    return np.asarray(
        image.transform((width, height), Image.Transform.AFFINE, back, Image.Resampling.BILINEAR)
    )


def _there_and_back(place: int, length: int) -> int:
    """Position after ``place`` steps of an endless walk 0, 1, ... length - 1 and back."""
    if length == 1:
        return 0
    place %= 2 * (length - 1)
    return min(place, 2 * (length - 1) - place)


def _picture(images: Path, name: str) -> Picture:
    picture = read_image(inside(images, name))
    if isinstance(picture, Skipped):
        raise VisoloError(f"cannot read the frame {picture.reason}")
    return picture
