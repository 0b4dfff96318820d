"""Annotated videos of real pixels: objects cut out of a data set move over other pictures.

The lowest layer is a picture of a folder, a photo or a piece of a video of the data set with the
objects that are annotated in it, seen by a camera that moves. Above it are cut-outs in layers,
each on its own path; a cut-out of a video keeps moving as it did there. Below them move pieces of
other pictures that are no objects; scenery comes last and hides parts of them. A map says which
object each pixel belongs to, so masks are exact under any occlusion.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from visolo_core.errors import VisoloError
from visolo_train.data.actors import Actor, Cast
from visolo_train.data.annotations import Annotations
from visolo_train.data.backdrops import Backdrops, Scene
from visolo_train.data.camera import Camera, draw_camera, photograph
from visolo_train.data.cut_outs import Stock
from visolo_train.data.layers import Look, draw_look, finished, paste, silhouette
from visolo_train.data.pasted_path import PastedPath, beside, draw_pasted_path
from visolo_train.data.synthetic import Random, SyntheticClip

_SCENERY = 0.3  # of the clips with cut-outs: something hides a part of one
_DECOYS = 0.35  # of the clips: pieces of other pictures move about, which are no objects
_MOST_DECOYS = 3
_DECOY_HEIGHTS = (0.1, 0.8)  # of the frame
_PASTED_PHOTOS = 0.3  # of the photos: something is pasted onto them
_ASPECTS = (4 / 3, 4 / 3, 4 / 3, 3 / 2, 3 / 4)  # of stretched clips, width over height
_FEWEST = 12  # pixels; an object of which less is visible counts as hidden


class PastedClips:
    """Clips by number, composed from a data set.

    Args:
        annotations: the data set.
        images: folder of its frames.
        backgrounds: folder of pictures without any object of its categories. Without one, all
            backdrops are videos of the data set in which everything is annotated: neither marked as
            not ``exhaustive`` nor with a crowd.
        photos: share of the clips that show a picture of the data set as it is, as a video.
        stretched: share of the photos that are stretched from their own aspect ratio to that of the
            clip, as every frame is to the input of a network; half that share of the other clips
            are stretched from another ratio.
        empty: share of the other clips onto which no object is pasted: what is no object may be
            all that there is.
        relays: share of the clips with cut-outs in which one leaves and another of its class comes.
        cameras: draws the camera of a clip.

    Raises:
        VisoloError: if there is nothing to cut out or no backdrop.
    """

    def __init__(
        self,
        annotations: Annotations,
        images: Path,
        backgrounds: Path | None = None,
        photos: float = 0.0,
        stretched: float = 0.0,
        empty: float = 0.0,
        relays: float = 0.0,
        cameras: Callable[[Random], Camera] = draw_camera,
    ) -> None:
        self.labels = annotations.labels
        self._stock = Stock(annotations, images)
        self._photos = photos
        self._stretched = stretched
        self._empty = empty
        self._relays = relays
        self._cameras = cameras
        self._backdrops = Backdrops(self._stock, backgrounds)
        if not self._stock.sources or not (self._backdrops.names or self._stock.complete):
            lacking = "object to cut out"
            if self._stock.sources:
                lacking = "picture annotated in full to paste on: name a folder of backgrounds"
            raise VisoloError(f"'{annotations.labels.name}' has no {lacking}")
        self._cast = Cast(self._stock, annotations.labels)

    def draw(
        self,
        seed: int,
        number: int,
        frames: int,
        height: int,
        width: int,
        positions: Sequence[int] | None = None,
    ) -> SyntheticClip:
        """One video, or some frames of it: a pure function of the seed, its number, and the size.

        Args:
            seed: of the data set.
            number: of the video in it.
            frames, height, width: size of the video.
            positions: numbers of the frames to draw, in any order; None draws all.

        Raises:
            VisoloError: if a frame cannot be read, or does not have the annotated size.
        """
        random = np.random.Generator(np.random.Philox(key=np.array([seed, number], np.uint64)))
        camera = self._cameras(random)
        scene, size = self._draw_scene(random, (height, width))
        bare = scene.video is not None and scene.around is not None
        actors: list[Actor] = []
        # Without a share, nothing is drawn: clips stay what they were by number.
        empty = self._empty > 0 and not bare and random.random() < self._empty
        if not empty and (not bare or random.random() < _PASTED_PHOTOS):
            actors = self._cast.draw_actors(random, frames, size)
            if self._relays > 0 and actors and random.random() < self._relays:
                actors = self._cast.relayed(random, actors, frames)
        below = self._stock.tracks.get(scene.video.video_id, []) if scene.video else []
        scenery = self._draw_scenery(random, actors) if random.random() < _SCENERY else None
        decoys = self._draw_decoys(random, frames, size) if random.random() < _DECOYS else []
        chosen = range(frames) if positions is None else positions

        video = np.empty((len(chosen), height, width, 3), np.uint8)
        categories = [track.category_id for track in below]
        categories += [actor.source.track.category_id for actor in actors]
        masks = np.zeros((len(chosen), len(categories), height, width), bool)
        shown: dict[tuple[int, int], NDArray[np.uint8]] = {}  # cut-outs, ready to be pasted
        for at, position in enumerate(chosen):
            # A frame is the same whichever others are drawn.
            of_frame = np.random.Generator(np.random.SFC64([seed, number, position]))
            image, owners = self._backdrops.render(scene, of_frame, position, frames, size)
            for look, path, piece in decoys:
                paste(image, owners, 0, piece, path, position, look.blur)
            for index, actor in enumerate(actors):
                pixels = self._cast.pixels(actor, index, position, shown)
                if pixels is not None:
                    owner = len(below) + index + 1
                    paste(image, owners, owner, pixels, actor.path, position, actor.look.blur)
            if scenery is not None:
                paste(image, owners, 0, scenery[1], scenery[0], position, 0.0)
            video[at] = _resized(photograph(camera, of_frame, image), (height, width))
            owners = _resized(owners, (height, width))
            for index in range(len(categories)):
                mask = owners == index + 1
                if np.count_nonzero(mask) >= _FEWEST:
                    masks[at, index] = mask
        annotated = None
        if scene.video is not None and not scene.video.exhaustive:
            annotated = tuple(sorted({track.category_id for track in below}))
        return SyntheticClip(video, tuple(categories), masks, annotated)

    def _draw_scene(self, random: Random, size: tuple[int, int]) -> tuple[Scene, tuple[int, int]]:
        """A scene, and the size of its frames before they are stretched to the clip's size."""
        red, green, blue = (int(each) for each in random.integers(0, 256, 3))
        is_photo = random.random() < self._photos
        stretched = random.random() < self._stretched * (1 if is_photo else 0.5)
        if is_photo:
            source = self._cast.draw_source(random)
            if stretched:
                size = size[0], max(16, round(size[0] * source.video.width / source.video.height))
            scene = self._backdrops.draw_photo(random, size, source, (red, green, blue))
            return scene, size
        if stretched:
            size = size[0], round(size[0] * float(random.choice(_ASPECTS)))
        return self._backdrops.draw(random, size), size

    def _draw_decoys(
        self, random: Random, frames: int, size: tuple[int, int]
    ) -> list[tuple[Look, PastedPath, NDArray[np.uint8]]]:
        """Pieces of backdrops, cut out and moved as objects are: neither an edge nor a motion of
        its own makes an object."""
        if not self._backdrops.names:
            return []
        decoys = []
        for _ in range(1 + int(random.integers(_MOST_DECOYS))):
            outline = self._draw_outline(random)
            height = size[0] * float(np.exp(random.uniform(*np.log(_DECOY_HEIGHTS))))
            pixels = silhouette(random, self._backdrops.picture(random), outline, height)
            aspect = pixels.shape[1] / pixels.shape[0]
            path = draw_pasted_path(random, frames, size, height, aspect, (False,) * 4)
            look = draw_look(random)
            decoys.append((look, path, finished(pixels, look, path.largest)))
        return decoys

    def _draw_outline(self, random: Random) -> NDArray[np.uint8] | None:
        """The opacity of some cut-out, uint8 [h, w]."""
        drawn = self._cast.draw_cut_out(random)
        return drawn[2].pixels[..., 3] if drawn is not None else None

    def _draw_scenery(
        self, random: Random, actors: list[Actor]
    ) -> tuple[PastedPath, NDArray[np.uint8]] | None:
        """Something of a backdrop that stands before an object: its path and its pixels."""
        if not actors or not self._backdrops.names:
            return None
        hidden = actors[int(random.integers(len(actors)))].path
        height = hidden.height * float(random.uniform(0.4, 1.3))
        outline = self._draw_outline(random)
        pixels = silhouette(random, self._backdrops.picture(random), outline, height)
        aspect = pixels.shape[1] / pixels.shape[0]
        offset = random.uniform(-0.5, 0.5, 2) * (hidden.height * hidden.aspect, hidden.height)
        path = beside(hidden, offset, height, aspect, (False,) * 4)
        return path.slowed(float(random.uniform(0, 0.3))), pixels


def _resized(picture: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """A picture [h, w, 3], or a map [h, w] of numbers, at another size (H, W)."""
    if picture.shape[:2] == size:
        return picture
    method = Image.Resampling.NEAREST if picture.ndim == 2 else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(picture).resize(size[::-1], method))
