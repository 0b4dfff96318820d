"""How the categories of one label set map to those of another.

COCO's images train networks of other label sets; any of these sets can be scored as ``everyday``.

The pairs are those commonly used to train video instance segmentation, written by name. COCO's
mouse is not among them: it is a computer mouse, and YouTube-VIS's is an animal.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from visolo_core.categories import (
    COCO,
    EVERYDAY,
    OVIS,
    YTVIS2019,
    YTVIS2021,
    LabelSet,
    plain_name,
)
from visolo_core.errors import VisoloError
from visolo_core.files import read_json
from visolo_train.data.annotations import Annotations

_ANIMALS = ("cat", "dog", "horse", "cow", "elephant", "bear", "zebra", "giraffe")
_SAME_2019 = (
    "person", "airplane", "train", "truck", "boat", *_ANIMALS,
    "snowboard", "skateboard", "surfboard", "tennis racket",
)  # fmt: skip
_ROADS = {"bicycle": "motorbike", "motorcycle": "motorbike", "skis": "snowboard"}

_PAIRS: dict[str, dict[str, str]] = {
    "ytvis2019": {name: name for name in _SAME_2019} | _ROADS | {"car": "sedan"},
    "ytvis2021": (
        {name: name for name in (*_SAME_2019, "car", "bird")} | _ROADS | {"frisbee": "flying disc"}
    ),
    "ovis": (
        {
            name: name
            for name in ("person", "bicycle", "motorcycle", "airplane", "boat", "bird", "sheep")
        }
        | {name: name for name in _ANIMALS}
        | {"car": "vehicle", "bus": "vehicle", "truck": "vehicle"}
    ),
}
_EVERYDAY_ANIMALS = (
    "animal", *_ANIMALS, "bird", "sheep", "giant panda", "lizard", "parrot", "ape", "snake",
    "monkey", "rabbit", "duck", "fish", "turtle", "leopard", "fox", "deer", "owl", "tiger",
    "shark", "mouse", "frog", "eagle", "earless seal", "squirrel", "whale", "poultry",
)  # fmt: skip
_EVERYDAY_PAIRS = {
    **{name: name for name in ("person", "bicycle", "car", "motorcycle", "airplane", "boat")},
    **dict.fromkeys(_EVERYDAY_ANIMALS, "animal"),
    "sedan": "car",
    "motorbike": "motorcycle",
}

_LIVING = frozenset(("person", "animal"))


def is_living(name: str) -> bool:
    """Whether a category's objects bend as they move: people and animals, by their known names."""
    return _EVERYDAY_PAIRS.get(plain_name(name)) in _LIVING


VIDEO_LABEL_SETS = {labels.name: labels for labels in (YTVIS2019, YTVIS2021, OVIS)}


def category_map(labels: LabelSet) -> dict[int, int]:
    """COCO's category ids to those of another label set; those without a counterpart are left
    out."""
    coco = {name: number for number, name in zip(COCO.ids, COCO.names, strict=True)}
    theirs = {plain_name(n): i for i, n in zip(labels.ids, labels.names, strict=True)}
    return {coco[name]: theirs[partner] for name, partner in _PAIRS[labels.name].items()}


def class_partners(labels: LabelSet, known: LabelSet) -> dict[int, int]:
    """Which class of a trained network a new one may go on from: the one of the same name, or for
    ``everyday`` the one that it is a kind of, as a dog is an animal.

    Args:
        labels: of the new network.
        known: of the trained one.

    Returns:
        positions in ``known`` by positions in ``labels``.

    >>> class_partners(LabelSet("mine", (4, 9), ("dog", "table")), EVERYDAY)
    {0: 6}
    """
    theirs = {plain_name(name): at for at, name in enumerate(known.names)}
    kinds = _everyday_kinds(labels) if known == EVERYDAY else {}
    partners = {}
    for at, (number, name) in enumerate(zip(labels.ids, labels.names, strict=True)):
        partner = theirs.get(plain_name(name), theirs.get(kinds.get(number, "")))
        if partner is not None:
            partners[at] = partner
    return partners


def as_everyday(annotations: Annotations) -> Annotations:
    """A data set under the categories of ``everyday``: every animal is an animal, a sedan is a car.

    Tracks of other categories are left out; the videos stay.
    """
    number = dict(zip(map(plain_name, EVERYDAY.names), EVERYDAY.ids, strict=True))
    kinds = _everyday_kinds(annotations.labels)
    tracks = tuple(
        replace(track, category_id=number[kinds[track.category_id]])
        for track in annotations.tracks
        if track.category_id in kinds
    )
    return Annotations(EVERYDAY, annotations.videos, tracks)


def _everyday_kinds(labels: LabelSet) -> dict[int, str]:
    """What each category is among everyday things, by its id; the others are left out."""
    names = {i: plain_name(name) for i, name in zip(labels.ids, labels.names, strict=True)}
    if "keyboard" in names.values():
        names = {i: name for i, name in names.items() if name != "mouse"}  # of a computer
    return {i: _EVERYDAY_PAIRS[name] for i, name in names.items() if name in _EVERYDAY_PAIRS}


@dataclass(frozen=True)
class Relabelled:
    """COCO's annotations under other categories."""

    document: dict[str, Any]
    """Content of the new file, in COCO's format; images without an object are left out."""
    images_before: int
    annotations_before: int


def relabel_coco(path: Path, labels: LabelSet) -> Relabelled:
    """COCO's annotations under the categories of a label set of videos.

    Args:
        path: COCO's json file, or another one with COCO's categories.
        labels: one of ``VIDEO_LABEL_SETS``.

    Raises:
        VisoloError: if the file cannot be read, is not in COCO's format, has other categories than
            COCO, or has no object of the label set.
    """
    document = read_json(path)
    try:
        names = {int(each["id"]): str(each["name"]) for each in document["categories"]}
        images, annotations = list(document["images"]), list(document["annotations"])
    except (KeyError, TypeError, ValueError) as error:
        raise VisoloError(
            f"'{path}' is not in COCO's format: it needs 'images', 'annotations' and 'categories'"
        ) from error
    coco = dict(zip(COCO.ids, COCO.names, strict=True))
    for number, name in names.items():
        if plain_name(coco.get(number, "")) != plain_name(name):
            raise VisoloError(
                f"category {number} of '{path}' is '{name}', in COCO it is "
                f"{repr(coco[number]) if number in coco else 'none'}: only COCO's can be mapped"
            )
    partners = category_map(labels)
    kept, annotated = [], set()
    for place, entry in enumerate(annotations):
        try:
            category, image = int(entry["category_id"]), entry["image_id"]
            hash(image)
        except (KeyError, TypeError, ValueError) as error:
            raise VisoloError(
                f"'{path}', annotations[{place}] has no category_id and image_id"
            ) from error
        if category not in names:
            raise VisoloError(
                f"'{path}', annotations[{place}] cannot be used: there is no category {category}"
            )
        if category in partners:
            kept.append({**entry, "category_id": partners[category]})
            annotated.add(image)
    left = [each for each in images if isinstance(each, dict) and each.get("id") in annotated]
    if not left:
        raise VisoloError(f"no image of '{path}' shows anything of '{labels.name}'")
    categories = [{"id": i, "name": n} for i, n in zip(labels.ids, labels.names, strict=True)]
    changed = {**document, "categories": categories, "images": left, "annotations": kept}
    return Relabelled(changed, len(images), len(annotations))
