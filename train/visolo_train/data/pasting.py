"""Annotated videos of real pixels: objects cut out of a data set move over other pictures.

The lowest layer is a picture of a folder, a photo or a piece of a video of the data set with the
objects that are annotated in it, seen by a camera that moves. Above it are cut-outs in layers,
each on its own path; a cut-out of a video keeps moving as it did there. Scenery comes last and
hides parts of them. A map says which object each pixel belongs to, so masks are exact under any
occlusion.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from visolo_core.categories import plain_name
from visolo_core.errors import VisoloError
from visolo_core.masks import mask_box
from visolo_runtime.video.frames import Picture
from visolo_train.data.annotations import Annotations, Video
from visolo_train.data.camera import Camera, draw_camera, photograph
from visolo_train.data.cut_outs import CutOut, Pictures, Source, Stock
from visolo_train.data.layers import Look, Numbers, draw_look, finished, paste, silhouette
from visolo_train.data.object_path import ObjectPath, beside, draw_path
from visolo_train.data.scene import View, backdrop_view, photo_view, warped
from visolo_train.data.synthetic import SyntheticClip

Random = np.random.Generator

_MOST = 5  # cut-outs of a clip
_TWINS = 0.25  # of the clips with several cut-outs: two are the same object
_PAIRS = 0.3  # likewise: two of one class go side by side
_RIDERS = 0.35  # of the clips that begin with something to ride
_SCENERY = 0.3  # of the clips with cut-outs: something hides a part of one
_COMPLETE = 0.25  # of the backdrops: a picture of the data set that is annotated in full
_PASTED_PHOTOS = 0.3  # of the photos: something is pasted onto them
_FEWEST = 12  # pixels; an object of which less is visible counts as hidden
_HEIGHTS = (0.047, 0.14, 0.98)  # of the frame: the smallest objects, ordinary ones, the largest
_SMALL = 0.2  # of the cut-outs are smaller than ordinary ones
_ENLARGED = 2.0  # times its own size a cut-out is shown at most
_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
_RIDDEN = frozenset(("bicycle", "motorcycle", "motorbike", "animal", "horse", "elephant"))
_OUTSIDE = 255  # in a map of numbers: beyond the picture


@dataclass(frozen=True)
class _Scene:
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


@dataclass(frozen=True)
class _Actor:
    """A cut-out on its path."""

    source: Source
    start: int
    """The first of its frames that is shown, counted among those that show it."""
    look: Look
    path: ObjectPath


class PastedClips:
    """Clips by number, composed from a data set.

    Args:
        annotations: the data set.
        images: folder of its frames.
        backgrounds: folder of pictures without any object of its categories. Without one, all
            backdrops are videos of the data set in which everything is annotated: neither marked as
            not ``exhaustive`` nor with a crowd.
        photos: share of the clips that show a picture of the data set as it is, as a video.
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
        cameras: Callable[[Random], Camera] = draw_camera,
    ) -> None:
        self.labels = annotations.labels
        self._stock = Stock(annotations, images)
        self._photos = photos
        self._cameras = cameras
        self._names: list[str] = []
        if backgrounds is not None:
            self._names = _picture_names(backgrounds)
            self._backgrounds = Pictures(backgrounds)
        if not self._stock.sources or not (self._names or self._stock.complete):
            lacking = "object to cut out" if not self._stock.sources else "video annotated in full"
            raise VisoloError(f"'{annotations.labels.name}' has no {lacking}")
        self._by_class: dict[int, list[Source]] = {}
        for source in self._stock.sources:
            self._by_class.setdefault(source.track.category_id, []).append(source)
        self._categories = sorted(self._by_class)
        # Rare classes are shown more often than they occur, and common ones less.
        counts = np.sqrt([len(self._by_class[each]) for each in self._categories])
        self._chances = counts / counts.sum()
        names = dict(zip(self.labels.ids, map(plain_name, self.labels.names), strict=True))
        self._ridden = {number for number in self._categories if names[number] in _RIDDEN}
        self._people = [number for number in self._categories if names[number] == "person"]

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
        size = height, width
        camera = self._cameras(random)
        scene = self._draw_scene(random, size)
        bare = scene.video is not None and scene.around is not None
        actors: list[_Actor] = []
        if not bare or random.random() < _PASTED_PHOTOS:
            actors = self._draw_actors(random, frames, size)
        below = self._stock.tracks.get(scene.video.video_id, []) if scene.video else []
        scenery = self._draw_scenery(random, actors) if random.random() < _SCENERY else None
        chosen = range(frames) if positions is None else positions

        video = np.empty((len(chosen), height, width, 3), np.uint8)
        categories = [track.category_id for track in below]
        categories += [actor.source.track.category_id for actor in actors]
        masks = np.zeros((len(chosen), len(categories), height, width), bool)
        shown: dict[tuple[int, int], NDArray[np.uint8]] = {}  # cut-outs, ready to be pasted
        for at, position in enumerate(chosen):
            # A frame is the same whichever others are drawn.
            of_frame = np.random.Generator(np.random.SFC64([seed, number, position]))
            image, owners = self._render(scene, of_frame, position, frames, size)
            for index, actor in enumerate(actors):
                pixels = self._pixels(actor, index, position, shown)
                if pixels is not None:
                    owner = len(below) + index + 1
                    paste(image, owners, owner, pixels, actor.path, position, actor.look.blur)
            if scenery is not None:
                paste(image, owners, 0, scenery[1], scenery[0], position, 0.0)
            video[at] = photograph(camera, of_frame, image)
            for index in range(len(categories)):
                mask = owners == index + 1
                if np.count_nonzero(mask) >= _FEWEST:
                    masks[at, index] = mask
        return SyntheticClip(video, tuple(categories), masks)

    # ------------------------------------------------------------------------------ scene

    def _draw_scene(self, random: Random, size: tuple[int, int]) -> _Scene:
        colour = tuple(int(each) for each in random.integers(0, 256, 3))
        if random.random() < self._photos:
            return self._draw_photo(random, size, (colour[0], colour[1], colour[2]))
        complete = self._stock.complete
        if not self._names or (complete and random.random() < _COMPLETE):
            video = complete[int(random.integers(len(complete)))]
            view = backdrop_view(random, (video.height, video.width), size)
            begin = int(random.integers(len(video.file_names)))
            return _Scene(view, video, begin, None, None, (0, 0, 0))
        picture = self._background(random)
        view = backdrop_view(random, picture.shape[:2], size)
        return _Scene(view, None, 0, picture, None, (0, 0, 0))

    def _draw_photo(
        self, random: Random, size: tuple[int, int], colour: tuple[int, int, int]
    ) -> _Scene:
        source = self._draw_source(random)
        begin = source.visible[int(random.integers(len(source.visible)))]
        box = mask_box(self._stock.mask(source, begin))
        video = source.video
        view = photo_view(random, (video.height, video.width), size, box)
        picture = self._background(random) if self._names and random.random() < 0.6 else None
        shape = picture.shape[:2] if picture is not None else size
        around = backdrop_view(random, shape, size)
        return _Scene(view, video, begin, picture, around, colour)

    def _background(self, random: Random) -> Picture:
        return self._backgrounds.read(self._names[int(random.integers(len(self._names)))])

    def _render(
        self, scene: _Scene, random: Random, position: int, frames: int, size: tuple[int, int]
    ) -> tuple[Picture, Numbers]:
        """The image [H, W, 3] of the scene, and the map [H, W] of the objects in it."""
        time = position / max(1, frames - 1)
        if scene.video is None:
            assert scene.picture is not None
            matrix = scene.view.matrix(random, time, size, scene.picture.shape[1])
            return warped(scene.picture, matrix, size).copy(), np.zeros(size, np.uint8)
        place = _there_and_back(scene.begin + position, len(scene.video.file_names))
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

    # ------------------------------------------------------------------------------ actors

    def _draw_source(self, random: Random, category: int | None = None) -> Source:
        if category is None:
            category = self._categories[int(random.choice(len(self._chances), p=self._chances))]
        sources = self._by_class[category]
        return sources[int(random.integers(len(sources)))]

    def _draw_cut_out(
        self, random: Random, category: int | None = None
    ) -> tuple[Source, int, CutOut] | None:
        """An object that can stand in a frame: one that no two opposite edges cut off."""
        for _ in range(8):
            source = self._draw_source(random, category)
            start = int(random.integers(len(source.visible)))
            cut_out = self._stock.cut_out(source, source.visible[start])
            if cut_out is None:
                continue
            left, top, right, bottom = cut_out.cut
            if not (left and right) and not (top and bottom):
                return source, start, cut_out
        return None

    def _draw_actors(self, random: Random, frames: int, size: tuple[int, int]) -> list[_Actor]:
        """Cut-outs from the lowest to the highest."""
        actors: list[_Actor] = []
        count = 1 + int(random.integers(_MOST))
        relation = random.random()
        for at in range(count):
            drawn = self._draw_cut_out(random)
            if drawn is None:
                continue
            source, start, cut_out = drawn
            if at == 1 and actors and relation < _TWINS + _PAIRS:
                actors.append(self._companion(random, actors[0], frames, size, relation < _TWINS))
                continue
            look = draw_look(random)
            height = _draw_height(random, cut_out, size)
            aspect = cut_out.pixels.shape[1] / cut_out.pixels.shape[0]
            cut = look.seen(cut_out.cut)
            path = draw_path(random, frames, size, height, aspect, cut)
            actors.append(_Actor(source, start, look, path))
            ridden = source.track.category_id in self._ridden and not any(cut)
            if at == 0 and ridden and self._people and random.random() < _RIDERS:
                rider = self._rider(random, actors[0])
                if rider is not None:
                    actors.insert(int(random.integers(2)), rider)
        return actors

    def _companion(
        self, random: Random, other: _Actor, frames: int, size: tuple[int, int], twin: bool
    ) -> _Actor:
        """Another of the same class: a twin on its own path, or one that goes along."""
        if twin:
            path = other.path
            own = draw_path(random, frames, size, path.height, path.aspect, path.cut)
            return _Actor(other.source, other.start, other.look, own)
        drawn = self._draw_cut_out(random, other.source.track.category_id)
        if drawn is None:
            return other
        source, start, cut_out = drawn
        look = draw_look(random)
        height = other.path.height * float(random.uniform(0.85, 1.15))
        aspect = cut_out.pixels.shape[1] / cut_out.pixels.shape[0]
        apart = (other.path.aspect * other.path.height + aspect * height) / 2
        side = 1 if random.random() < 0.5 else -1
        offset = np.array([side * apart * random.uniform(0.6, 1.15), random.normal(0, height / 15)])
        path = beside(other.path, offset, height, aspect, look.seen(cut_out.cut))
        return _Actor(source, start, look, path)

    def _rider(self, random: Random, mount: _Actor) -> _Actor | None:
        """A person on a bicycle, a motorcycle or an animal."""
        drawn = self._draw_cut_out(random, self._people[0])
        if drawn is None or any(drawn[2].cut):
            return None
        source, start, cut_out = drawn
        height = mount.path.height * float(random.uniform(0.7, 1.25))
        aspect = cut_out.pixels.shape[1] / cut_out.pixels.shape[0]
        down = mount.path.height * random.uniform(0.0, 0.4) - height / 2
        across = mount.path.height * mount.path.aspect * random.uniform(-0.2, 0.2)
        look = draw_look(random)
        path = beside(mount.path, np.array([across, down]), height, aspect, (False,) * 4)
        return _Actor(source, start, look, path)

    def _pixels(
        self,
        actor: _Actor,
        index: int,
        position: int,
        shown: dict[tuple[int, int], NDArray[np.uint8]],
    ) -> NDArray[np.uint8] | None:
        """The cut-out [h, w, 4] for a frame, about as large as it is shown."""
        visible = actor.source.visible
        place = visible[_there_and_back(actor.start + position, len(visible))]
        if (index, place) not in shown:
            cut_out = self._stock.cut_out(actor.source, place)
            if cut_out is None:
                return None
            shown[index, place] = finished(cut_out.pixels, actor.look, actor.path.largest)
        return shown[index, place]

    def _draw_scenery(
        self, random: Random, actors: list[_Actor]
    ) -> tuple[ObjectPath, NDArray[np.uint8]] | None:
        """Something of a backdrop that stands before an object: its path and its pixels."""
        if not actors or not self._names:
            return None
        hidden = actors[int(random.integers(len(actors)))].path
        height = hidden.height * float(random.uniform(0.4, 1.3))
        drawn = self._draw_cut_out(random)
        outline = drawn[2].pixels[..., 3] if drawn is not None else None
        pixels = silhouette(random, self._background(random), outline, height)
        aspect = pixels.shape[1] / pixels.shape[0]
        offset = random.uniform(-0.5, 0.5, 2) * (hidden.height * hidden.aspect, hidden.height)
        path = beside(hidden, offset, height, aspect, (False,) * 4)
        return path.slowed(float(random.uniform(0, 0.3))), pixels


def _draw_height(random: Random, cut_out: CutOut, size: tuple[int, int]) -> float:
    """Pixels; every size is equally likely on a logarithmic scale."""
    smallest, ordinary, largest = _HEIGHTS
    small = random.random() < _SMALL
    low, high = (smallest, ordinary) if small else (ordinary, largest)
    height, width = cut_out.pixels.shape[:2]
    most = min(_ENLARGED * height, 1.1 * size[1] * height / width)
    drawn = float(np.exp(random.uniform(np.log(low), np.log(high)))) * size[0]
    return float(min(drawn, most))


def _there_and_back(place: int, length: int) -> int:
    """Position after ``place`` steps of an endless walk 0, 1, ... length - 1 and back."""
    if length == 1:
        return 0
    place %= 2 * (length - 1)
    return min(place, 2 * (length - 1) - place)


def _picture_names(folder: Path) -> list[str]:
    """The pictures in a folder.

    Raises:
        VisoloError: if there are none.
    """
    names = []
    if folder.is_dir():
        names = sorted(each.name for each in folder.iterdir() if each.suffix.lower() in _SUFFIXES)
    if not names:
        raise VisoloError(f"'{folder}' holds no pictures to paste on")
    return names
