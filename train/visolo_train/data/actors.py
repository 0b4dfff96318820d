"""Who appears in a composed clip: cut-outs with their paths, their companions and their riders."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from visolo_core.categories import LabelSet, plain_name
from visolo_train.data.category_maps import is_living
from visolo_train.data.cut_outs import CutOut, Source, Stock, there_and_back
from visolo_train.data.layers import Look, draw_look, finished
from visolo_train.data.pasted_path import PastedPath, beside, draw_pasted_path
from visolo_train.data.synthetic import Random

_MOST = 5  # cut-outs of a clip
_TWINS = 0.25  # of the clips with several cut-outs: two are the same object
_PAIRS = 0.3  # likewise: two of one class go side by side
_RIDERS = 0.35  # of the clips that begin with something to ride
_HEIGHTS = (0.047, 0.14, 0.98)  # of the frame: the smallest objects, ordinary ones, the largest
_SMALL = 0.2  # of the cut-outs are smaller than ordinary ones
_SAME_PLACE = 0.6  # of those that come in another's stead: where it was
_ENLARGED = 2.0  # times its own size a cut-out is shown at most
_RIDDEN = frozenset(("bicycle", "motorcycle", "motorbike", "animal", "horse", "elephant"))


@dataclass(frozen=True)
class Actor:
    """A cut-out on its path."""

    source: Source
    start: int
    """The first of its frames that is shown, counted among those that show it."""
    look: Look
    path: PastedPath
    present: tuple[float, float] = (-math.inf, math.inf)
    """The first and the last time at which it is there."""


class Cast:
    """The objects of a data set, to be drawn from.

    Args:
        stock: the data set; it has an object.
        labels: its categories.
    """

    def __init__(self, stock: Stock, labels: LabelSet) -> None:
        self._stock = stock
        self._by_class: dict[int, list[Source]] = {}
        for source in stock.sources:
            self._by_class.setdefault(source.track.category_id, []).append(source)
        self._categories = sorted(self._by_class)
        # Rare classes are shown more often than they occur, and common ones less.
        counts = np.sqrt([len(self._by_class[each]) for each in self._categories])
        self._chances = counts / counts.sum()
        names = dict(zip(labels.ids, map(plain_name, labels.names), strict=True))
        self._ridden = {number for number in self._categories if names[number] in _RIDDEN}
        self._living = {number for number in self._categories if is_living(names[number])}
        self._people = [number for number in self._categories if names[number] == "person"]

    def draw_source(self, random: Random, category: int | None = None) -> Source:
        """An object of a category, or of any."""
        if category is None:
            category = self._categories[int(random.choice(len(self._chances), p=self._chances))]
        sources = self._by_class[category]
        return sources[int(random.integers(len(sources)))]

    def draw_cut_out(
        self, random: Random, category: int | None = None
    ) -> tuple[Source, int, CutOut] | None:
        """An object that can stand in a frame: one that no two opposite edges cut off."""
        for _ in range(8):
            source = self.draw_source(random, category)
            start = int(random.integers(len(source.visible)))
            cut_out = self._stock.cut_out(source, source.visible[start])
            if cut_out is None:
                continue
            left, top, right, bottom = cut_out.cut
            if not (left and right) and not (top and bottom):
                return source, start, cut_out
        return None

    def draw_actors(self, random: Random, frames: int, size: tuple[int, int]) -> list[Actor]:
        """Cut-outs from the lowest to the highest."""
        actors: list[Actor] = []
        count = 1 + int(random.integers(_MOST))
        relation = random.random()
        for at in range(count):
            drawn = self.draw_cut_out(random)
            if drawn is None:
                continue
            source, start, cut_out = drawn
            if at == 1 and actors and relation < _TWINS + _PAIRS:
                actors.append(self._companion(random, actors[0], frames, size, relation < _TWINS))
                continue
            look = self._draw_look(random, source, cut_out)
            height = _draw_height(random, cut_out, size)
            aspect = cut_out.pixels.shape[1] / cut_out.pixels.shape[0]
            cut = look.seen(cut_out.cut)
            path = draw_pasted_path(random, frames, size, height, aspect, cut)
            actors.append(Actor(source, start, look, path))
            ridden = source.track.category_id in self._ridden and not any(cut)
            if at == 0 and ridden and self._people and random.random() < _RIDERS:
                rider = self._rider(random, actors[0])
                if rider is not None:
                    actors.insert(int(random.integers(2)), rider)
        return actors

    def _draw_look(self, random: Random, source: Source, cut_out: CutOut) -> Look:
        """Who is cut off by an edge stays straight there."""
        supple = source.track.category_id in self._living and not any(cut_out.cut)
        return draw_look(random, supple)

    def _draw_peer(
        self, random: Random, source: Source, cut_out: CutOut, path: PastedPath
    ) -> tuple[Look, float, float]:
        """Look, height in pixels and aspect of one about as tall as who is on this path."""
        look = self._draw_look(random, source, cut_out)
        height = path.height * float(random.uniform(0.85, 1.15))
        return look, height, cut_out.pixels.shape[1] / cut_out.pixels.shape[0]

    def _companion(
        self, random: Random, other: Actor, frames: int, size: tuple[int, int], twin: bool
    ) -> Actor:
        """Another of the same class: a twin on its own path, or one that goes along."""
        if twin:
            path = other.path
            own = draw_pasted_path(random, frames, size, path.height, path.aspect, path.cut)
            return Actor(other.source, other.start, other.look, own)
        drawn = self.draw_cut_out(random, other.source.track.category_id)
        if drawn is None:
            return other
        source, start, cut_out = drawn
        look, height, aspect = self._draw_peer(random, source, cut_out, other.path)
        apart = (other.path.aspect * other.path.height + aspect * height) / 2
        side = 1 if random.random() < 0.5 else -1
        offset = np.array([side * apart * random.uniform(0.6, 1.15), random.normal(0, height / 15)])
        path = beside(other.path, offset, height, aspect, look.seen(cut_out.cut))
        return Actor(source, start, look, path)

    def relayed(self, random: Random, actors: list[Actor], frames: int) -> list[Actor]:
        """The first of them leaves, and another of its class comes, often to the same place."""
        first, others = actors[0], actors[1:]
        drawn = self.draw_cut_out(random, first.source.track.category_id)
        if drawn is None or drawn[0] is first.source:
            return actors
        source, start, cut_out = drawn
        path = first.path
        look, height, aspect = self._draw_peer(random, source, cut_out, path)
        cut = look.seen(cut_out.cut)
        if random.random() < _SAME_PLACE:
            path = beside(path, random.normal(0, path.height / 5, 2), height, aspect, cut)
        else:
            path = draw_pasted_path(random, frames, path.size, height, aspect, cut)
        change = frames * float(random.uniform(0.2, 0.8))
        gap = frames * float(random.uniform(0, 0.2))
        leaving = replace(first, present=(-math.inf, change))
        coming = Actor(source, start, look, path, (change + gap, math.inf))
        return [leaving, coming, *others]

    def _rider(self, random: Random, mount: Actor) -> Actor | None:
        """A person on a bicycle, a motorcycle or an animal."""
        drawn = self.draw_cut_out(random, self._people[0])
        if drawn is None or any(drawn[2].cut):
            return None
        source, start, cut_out = drawn
        look = self._draw_look(random, source, cut_out)
        height = mount.path.height * float(random.uniform(0.7, 1.25))
        aspect = cut_out.pixels.shape[1] / cut_out.pixels.shape[0]
        down = mount.path.height * random.uniform(0.0, 0.4) - height / 2
        across = mount.path.height * mount.path.aspect * random.uniform(-0.2, 0.2)
        path = beside(mount.path, np.array([across, down]), height, aspect, (False,) * 4)
        return Actor(source, start, look, path)

    def pixels(
        self,
        actor: Actor,
        index: int,
        position: int,
        shown: dict[tuple[int, int], NDArray[np.uint8]],
    ) -> NDArray[np.uint8] | None:
        """The cut-out [h, w, 4] for a frame, about as large as it is shown."""
        if not actor.present[0] <= position <= actor.present[1]:
            return None
        visible = actor.source.visible
        place = visible[there_and_back(actor.start + position, len(visible))]
        if (index, place) not in shown:
            cut_out = self._stock.cut_out(actor.source, place)
            if cut_out is None:
                return None
            shown[index, place] = finished(cut_out.pixels, actor.look, actor.path.largest)
        return shown[index, place]


def _draw_height(random: Random, cut_out: CutOut, size: tuple[int, int]) -> float:
    """Pixels; every size is equally likely on a logarithmic scale."""
    smallest, ordinary, largest = _HEIGHTS
    small = random.random() < _SMALL
    low, high = (smallest, ordinary) if small else (ordinary, largest)
    height, width = cut_out.pixels.shape[:2]
    most = min(_ENLARGED * height, 1.1 * size[1] * height / width)
    drawn = float(np.exp(random.uniform(np.log(low), np.log(high)))) * size[0]
    return float(min(drawn, most))
