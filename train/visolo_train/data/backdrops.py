"""What cut-outs are pasted onto: a picture, a photo or a piece of a video, seen by a camera."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from visolo_core.errors import VisoloError
from visolo_core.masks import mask_box
from visolo_runtime.video.frames import Picture
from visolo_train.data.annotations import Video
from visolo_train.data.cut_outs import Pictures, Source, Stock, there_and_back
from visolo_train.data.layers import Numbers
from visolo_train.data.synthetic import Random
from visolo_train.data.views import View, backdrop_view, photo_view, warped

_COMPLETE = 0.25  # of the backdrops: a picture of the data set that is annotated in full
_AROUND = 0.6  # of the photos have a picture around them, the others a colour
_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
_OUTSIDE = 255  # in a map of numbers: beyond the picture


@dataclass(frozen=True)
class Scene:
    """What a clip is pasted onto."""

    view: View
    video: Video | None
    """Of the data set; None for a picture of the folder of backgrounds."""
    begin: int
    """The first of its frames that is shown."""
    picture: Picture | None
    """Of the folder of backgrounds: the scene, or what surrounds a photo."""
    around: View | None
    """Of that picture around a photo."""
    colour: tuple[int, int, int]
    """Around a photo without one."""


class Backdrops:
    """The scenes of a data set and of a folder of pictures.

    Args:
        stock: the data set.
        folder: of pictures without any object of its categories, if there is one.

    Raises:
        VisoloError: if the folder holds no picture.
    """

    def __init__(self, stock: Stock, folder: Path | None) -> None:
        self._stock = stock
        self.names: list[str] = []
        """Of the pictures in the folder."""
        if folder is not None:
            self.names = _picture_names(folder)
            self._pictures = Pictures(folder)

    def picture(self, random: Random) -> Picture:
        """One of the folder."""
        return self._pictures.read(self.names[int(random.integers(len(self.names)))])

    def draw(self, random: Random, size: tuple[int, int]) -> Scene:
        """A picture of the folder, or of the data set if everything in it is annotated."""
        complete = self._stock.complete
        if not self.names or (complete and random.random() < _COMPLETE):
            video = complete[int(random.integers(len(complete)))]
            view = backdrop_view(random, (video.height, video.width), size)
            begin = int(random.integers(len(video.file_names)))
            return Scene(view, video, begin, None, None, (0, 0, 0))
        picture = self.picture(random)
        view = backdrop_view(random, picture.shape[:2], size)
        return Scene(view, None, 0, picture, None, (0, 0, 0))

    def draw_photo(
        self,
        random: Random,
        size: tuple[int, int],
        source: Source,
        colour: tuple[int, int, int],
    ) -> Scene:
        """A frame that shows an object, with a picture or a colour around it."""
        begin = source.visible[int(random.integers(len(source.visible)))]
        box = mask_box(self._stock.mask(source, begin))
        video = source.video
        view = photo_view(random, (video.height, video.width), size, box)
        picture = self.picture(random) if self.names and random.random() < _AROUND else None
        shape = picture.shape[:2] if picture is not None else size
        around = backdrop_view(random, shape, size)
        return Scene(view, video, begin, picture, around, colour)

    def render(
        self, scene: Scene, random: Random, position: int, frames: int, size: tuple[int, int]
    ) -> tuple[Picture, Numbers]:
        """The image [H, W, 3] of the scene, and the map [H, W] of the objects in it."""
        time = position / max(1, frames - 1)
        if scene.video is None:
            assert scene.picture is not None
            matrix = scene.view.matrix(random, time, size, scene.picture.shape[1])
            return warped(scene.picture, matrix, size).copy(), np.zeros(size, np.uint8)
        place = there_and_back(scene.begin + position, len(scene.video.file_names))
        matrix = scene.view.matrix(random, time, size, scene.video.width)
        picture = self._stock.frame(scene.video, place)
        image = warped(picture, matrix, size, scene.colour).copy()
        owners = warped(self._stock.owners(scene.video, place), matrix, size, _OUTSIDE).copy()
        outside = owners == _OUTSIDE
        if scene.picture is not None and scene.around is not None and outside.any():
            matrix = scene.around.matrix(random, time, size, scene.picture.shape[1])
            np.copyto(image, warped(scene.picture, matrix, size), where=outside[..., None])
        owners[outside] = 0
        return image, owners


def _picture_names(folder: Path) -> list[str]:
    """The pictures in a folder.

    Raises:
        VisoloError: if there are none.
    """
    names = []
    if folder.is_dir():
        pictures = (each for each in folder.iterdir() if each.suffix.lower() in _SUFFIXES)
        names = sorted(each.name for each in pictures if not each.name.startswith("."))
    if not names:
        raise VisoloError(f"'{folder}' holds no pictures to paste on")
    return names
