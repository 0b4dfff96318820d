"""The data sets of a recipe as training clips."""

from __future__ import annotations

import shlex
from collections.abc import Callable

from visolo_core.categories import LabelSet
from visolo_core.errors import VisoloError
from visolo_train.data.annotations import read_annotations
from visolo_train.data.pasting import PastedClips
from visolo_train.data.split import without_held_out
from visolo_train.learning.augmentation import Augmentation
from visolo_train.learning.clips import (
    AnnotatedClips,
    ComposedClips,
    DrawnClips,
    MixedClips,
    Sampling,
)
from visolo_train.learning.recipe import DataTable, Recipe


def build_clips(
    recipe: Recipe, labels: LabelSet, note: Callable[[str], None] = lambda _: None
) -> MixedClips:
    """The clips of all data sets of a recipe.

    Args:
        recipe: names the data sets.
        labels: of the network.
        note: called with remarks about the data, in sentences.

    Raises:
        VisoloError: if a data set is missing or does not fit.
    """
    size = recipe.network.config().input_size
    parts = [
        (_clips(f"data.{name}", table, labels, size, note), table.share)
        for name, table in recipe.data.items()
        if table.share > 0
    ]
    return MixedClips(parts, recipe.start.seed)


def _clips(
    name: str,
    table: DataTable,
    labels: LabelSet,
    size: tuple[int, int],
    note: Callable[[str], None],
) -> AnnotatedClips | ComposedClips | DrawnClips:
    sampling = Sampling(table.frames, table.reach)
    if table.kind == "drawn":
        return DrawnClips(size, sampling, table.seed)
    if table.annotations is None:
        raise VisoloError(f"{name}.annotations is not set: name a json file")
    augmentation = Augmentation(size, table.short_sides, table.rotation, table.flip)
    images = table.images or table.annotations.parent / "JPEGImages"
    annotations = without_held_out(
        read_annotations(table.annotations, table.crowd_objects),
        table.annotations,
        table.held_out,
    )
    if table.kind == "pasted":
        pasted = PastedClips(
            annotations,
            images,
            table.backgrounds,
            photos=table.photos,
            stretched=table.stretched,
            empty=table.empty,
            relays=table.relays,
        )
        return ComposedClips(pasted, labels, size, sampling, table.seed, table.always_annotated)
    clips = AnnotatedClips(annotations, images, labels, sampling, augmentation, table.seed)
    if not len(clips):
        raise VisoloError(
            f"'{table.annotations}' has no video with an object to learn from: "
            f"visolo data check {shlex.quote(str(table.annotations))} says why"
        )
    if clips.left_out:
        note(
            f"'{table.annotations}': {len(clips.left_out)} of {len(annotations.videos)} videos "
            f"have no object to learn from and are left out, the first is {clips.left_out[0]}"
        )
    return clips
