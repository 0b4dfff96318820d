"""Label sets: the categories of the data sets, with the ids used in their result files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from visolo_core.errors import VisoloError
from visolo_core.files import read_json


@dataclass(frozen=True)
class LabelSet:
    """Categories of a data set, in the order of the network's classes.

    Raises:
        VisoloError: if ids and names differ in number, or an id occurs twice.
    """

    name: str
    ids: tuple[int, ...]
    """Category id of each class, as in annotation and result files."""
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.names) or not self.ids:
            raise VisoloError(
                f"label set '{self.name}' has {len(self.ids)} ids for {len(self.names)} names"
            )
        if len(set(self.ids)) != len(self.ids):
            raise VisoloError(
                f"label set '{self.name}' uses a category id twice: give every category its own id"
            )

    def __len__(self) -> int:
        return len(self.ids)

    def classes_named(self, names: str) -> tuple[int, ...]:
        """Class indices of categories by name.

        Args:
            names: separated by commas; case does not matter, and ``_`` is a space.

        Raises:
            VisoloError: if there is no such category.

        >>> SHAPES.classes_named("Disc, star")
        (0, 3)
        """
        known = [plain_name(name) for name in self.names]
        wanted = {plain_name(name) for name in names.split(",") if name.strip()}
        unknown = sorted(wanted - set(known))
        if unknown or not wanted:
            problem = f"class '{unknown[0]}' is unknown" if unknown else "no class is named"
            raise VisoloError(f"{problem}: choose from {', '.join(self.names)}")
        return tuple(index for index, name in enumerate(known) if name in wanted)


def _numbered(name: str, names: str) -> LabelSet:
    words = tuple(names.split())
    return LabelSet(name, tuple(range(1, len(words) + 1)), words)


YTVIS2019 = _numbered(
    "ytvis2019",
    "person giant_panda lizard parrot skateboard sedan ape dog snake monkey hand rabbit duck cat "
    "cow fish train horse turtle bear motorbike giraffe leopard fox deer owl surfboard airplane "
    "truck zebra tiger elephant snowboard boat shark mouse frog eagle earless_seal tennis_racket",
)
YTVIS2021 = _numbered(
    "ytvis2021",
    "airplane bear bird boat car cat cow deer dog duck earless_seal elephant fish flying_disc fox "
    "frog giant_panda giraffe horse leopard lizard monkey motorbike mouse parrot person rabbit "
    "shark skateboard snake snowboard squirrel surfboard tennis_racket tiger train truck turtle "
    "whale zebra",
)
OVIS = _numbered(
    "ovis",
    "Person Bird Cat Dog Horse Sheep Cow Elephant Bear Zebra Giraffe Poultry Giant_panda Lizard "
    "Parrot Monkey Rabbit Tiger Fish Turtle Bicycle Motorcycle Airplane Boat Vehicle",
)
SHAPES = _numbered("shapes", "disc square triangle star cross ring")
EVERYDAY = _numbered("everyday", "person bicycle car motorcycle airplane boat animal")

_COCO_NAMES = (
    "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,"
    "stop sign,parking meter,bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,"
    "backpack,umbrella,handbag,tie,suitcase,frisbee,skis,snowboard,sports ball,kite,baseball bat,"
    "baseball glove,skateboard,surfboard,tennis racket,bottle,wine glass,cup,fork,knife,spoon,"
    "bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,"
    "potted plant,bed,dining table,toilet,tv,laptop,mouse,remote,keyboard,cell phone,microwave,"
    "oven,toaster,sink,refrigerator,book,clock,vase,scissors,teddy bear,hair drier,toothbrush"
)
_COCO_UNUSED = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
COCO = LabelSet(
    "coco",
    tuple(number for number in range(1, 91) if number not in _COCO_UNUSED),
    tuple(_COCO_NAMES.split(",")),
)

LABEL_SETS = {
    labels.name: labels for labels in (YTVIS2019, YTVIS2021, OVIS, COCO, SHAPES, EVERYDAY)
}


UNNAMED = "unnamed"


def unnamed(classes: int) -> LabelSet:
    """A label set for a network without named categories: ids from 1, names from ``class 1``."""
    ids = tuple(range(1, classes + 1))
    return LabelSet(UNNAMED, ids, tuple(f"class {number}" for number in ids))


def plain_name(name: str) -> str:
    """A category's name for comparison: lower case, with spaces instead of ``_``."""
    return name.casefold().replace("_", " ").strip()


def labels_for_class_count(classes: int) -> LabelSet:
    """The published label set with this many classes; ``ytvis2019`` for 40, an unnamed set if none
    fits."""
    for labels in (YTVIS2019, YTVIS2021, OVIS, COCO):
        if len(labels) == classes:
            return labels
    return unnamed(classes)


def find_labels(name_or_file: str) -> LabelSet:
    """A label set by its name, or from a json file with a ``categories`` list.

    Raises:
        VisoloError: if the name is unknown or the file has no usable list.
    """
    if name_or_file in LABEL_SETS:
        return LABEL_SETS[name_or_file]
    path = Path(name_or_file)
    if path.suffix != ".json":
        known = ", ".join(LABEL_SETS)
        raise VisoloError(
            f"label set '{name_or_file}' is unknown: choose one of {known}, "
            "or name a json file that has a 'categories' list"
        )
    document = read_json(path)
    try:
        return labels_of(document["categories"], path.stem)
    except (ValueError, KeyError, TypeError) as error:
        raise VisoloError(
            f"'{path}' has no usable 'categories': each needs an integer 'id' and a 'name'"
        ) from error


def labels_of(categories: Sequence[dict[str, object]], name: str) -> LabelSet:
    """The label set of the ``categories`` of an annotation file, sorted by id.

    Raises:
        KeyError, TypeError, ValueError: if an entry has no integer ``id`` or no ``name``.
    """
    pairs = sorted((int(str(entry["id"])), str(entry["name"])) for entry in categories)
    return LabelSet(name, tuple(pair[0] for pair in pairs), tuple(pair[1] for pair in pairs))
