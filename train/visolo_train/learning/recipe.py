"""Recipes: all settings of a training in one TOML file, checked before anything starts.

Recipes in the package are named; any other is a path. Every setting can be changed from outside by
its dotted name: ``schedule.steps=200``.
"""

from __future__ import annotations

import tomllib
from dataclasses import fields, replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from visolo_core.categories import LabelSet, find_labels
from visolo_core.config import PRESETS, ModelConfig
from visolo_core.errors import VisoloError
from visolo_core.files import read_text
from visolo_train.learning.loop import Schedule


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class NetworkTable(_Table):
    """``[network]``: a preset and the differences from it."""

    preset: str = "r50"
    """``r50`` (the paper) or ``lite``."""
    labels: str = "ytvis2019"
    """A label set by name, or a json file with categories."""
    backbone: str | None = None
    backbone_width: int | None = None
    backbone_norm: str | None = None
    width: int | None = None
    mask_width: int | None = None
    groups: int | None = None
    grid: tuple[int, int] | None = None
    input_size: tuple[int, int] | None = None

    def label_set(self) -> LabelSet:
        """The categories."""
        return find_labels(self.labels)

    def config(self) -> ModelConfig:
        """The network's shape.

        Raises:
            VisoloError: if the preset is unknown or the sizes do not fit together.
        """
        if self.preset not in PRESETS:
            raise VisoloError(f"preset '{self.preset}' is unknown: choose {', '.join(PRESETS)}")
        names = [field.name for field in fields(ModelConfig) if field.name != "classes"]
        changes = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return replace(PRESETS[self.preset], classes=len(self.label_set()), **changes)


class StartTable(_Table):
    """``[start]``: the weights before the first step."""

    weights: Path | None = None
    """A checkpoint to start from, or a network of the package, ``everyday`` or ``shapes``; a
    classifier of other categories is initialised again."""
    same_classes: bool = False
    """Each class of ``weights`` whose name is a category, or that a category is a kind of, goes on
    as that category; only the other categories begin anew."""
    backbone: str = ""
    """``imagenet`` (torchvision's weights, downloaded once), a file of such weights, or nothing."""
    branches: str = ""
    """``lite`` (the network of shapes in the package) or a checkpoint of any network: its tensors
    outside the backbone are taken over where names and shapes fit, except the classifier's."""
    frozen: tuple[str, ...] = ()
    """Parts of the backbone that keep their weights, such as ``layer1`` or ``features.0``."""
    seed: int = Field(default=0, ge=0)


class DataTable(_Table):
    """``[data.NAME]``: clips to learn from, and their share."""

    kind: Literal["annotated", "drawn", "pasted"] = "annotated"
    """``annotated``: a json file in YouTube-VIS or COCO format; ``drawn``: clips of shapes;
    ``pasted``: objects cut out of such a file move over other pictures."""
    share: float = Field(default=1.0, ge=0)
    annotations: Path | None = None
    images: Path | None = None
    """Folder of the frames; the one beside the json without it."""
    backgrounds: Path | None = None
    """Of pasted clips: folder of pictures that show none of the categories. Without it, all
    backdrops are videos or images of the set that are annotated in full."""
    photos: float = Field(default=0.0, ge=0, le=1)
    """Of pasted clips: the share that shows an image of the set as it is, under a moving camera."""
    stretched: float = Field(default=0.0, ge=0, le=1)
    """Of pasted clips: the share of the photos, and half that of the others, that is stretched from
    another aspect ratio, as the runtime stretches every frame."""
    empty: float = Field(default=0.0, ge=0, le=1)
    """Of pasted clips that show no image of the set as it is: the share without any cut-out."""
    relays: float = Field(default=0.0, ge=0, le=1)
    """Of pasted clips with cut-outs: the share in which one leaves and another of its class comes,
    often to the same place."""
    always_annotated: tuple[str, ...] = ()
    """Of pasted clips: names of the categories of which every object is annotated, also in images
    that are not ``exhaustive``. An image teaches that none of them is where none is annotated."""
    crowd_objects: bool = False
    """Read crowds as objects, such as the brush masks of CVAT's COCO export."""
    held_out: float = Field(default=0.0, ge=0, lt=1)
    """Share of the videos or images to leave out: the validation side of ``visolo data split``."""
    frames: int = Field(default=3, ge=2)
    reach: int = Field(default=20, ge=0)
    short_sides: tuple[int, ...] = ()
    rotation: float = Field(default=0.0, ge=0, le=180)
    flip: bool = True
    seed: int = Field(default=0, ge=0)


class ValidationTable(_Table):
    """``[validation]``: what the network is scored on during the training."""

    annotations: Path | None = None
    images: Path | None = None
    crowd_objects: bool = False
    """As of the data sets."""
    every: int = Field(default=0, ge=0)
    """Steps between two scores; 0 scores never. The last step is scored too."""
    keep: Literal["last", "best"] = "last"
    """Which weights are the result: of the last step, or those with the best AP."""
    patience: int = Field(default=0, ge=0)
    """Of ``keep = "best"``: the training stops after as many scores in a row that are not better
    than all before; 0 never stops it."""


class RunTable(_Table):
    """``[run]``: settings that do not affect the result."""

    device: str = "auto"
    workers: int = Field(default=2, ge=0)
    """Processes that read clips, for each process that trains."""
    save_every: int = Field(default=1000, ge=1)
    log_every: int = Field(default=20, ge=1)
    tensorboard: bool = True
    threads: int = Field(default=0, ge=0)
    """CPU threads of a process; 0 lets PyTorch choose."""


class Recipe(_Table):
    """All settings of a training."""

    network: NetworkTable
    start: StartTable = StartTable()
    data: dict[str, DataTable]
    schedule: Schedule
    validation: ValidationTable = ValidationTable()
    run: RunTable = RunTable()

    def fixed(self) -> dict[str, Any]:
        """Everything that determines the weights; an interrupted training can only be resumed with
        the same."""
        free = {"run"} if self.validation.keep == "best" else {"run", "validation"}
        return self.model_dump(mode="json", exclude=free)


def names() -> list[str]:
    """The recipes in the package."""
    folder = resources.files("visolo_train.learning") / "recipes"
    return sorted(each.name.removesuffix(".toml") for each in folder.iterdir())


def read_recipe(name_or_path: str, changes: list[str]) -> Recipe:
    """A recipe with changes.

    Args:
        name_or_path: of a recipe in the package, or a TOML file.
        changes: ``table.name=value``, values as TOML writes them; a word needs no quotes.

    Raises:
        VisoloError: if there is no such recipe, or a setting is unknown or unusable.
    """
    where = f"recipe '{name_or_path}'"
    try:
        document = tomllib.loads(_text(name_or_path))
    except (ValueError, RecursionError) as error:
        raise VisoloError(f"{where} is not TOML: {error}") from error
    change(document, changes)
    return checked(document, where)


def change(document: dict[str, Any], changes: list[str]) -> None:
    """Apply changes to the content of a recipe.

    Raises:
        VisoloError: if a change is none.
    """
    for each in changes:
        _apply(document, each)


def checked(document: dict[str, Any], where: str) -> Recipe:
    """The content of a recipe, as its settings.

    Args:
        document: by table and name.
        where: names the recipe in errors.

    Raises:
        VisoloError: if a setting is unknown or unusable.
    """
    try:
        return Recipe.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        wrong = first["msg"].removeprefix("Value error, ")
        raise VisoloError(f"{where}, {place or 'settings'}: {wrong}") from error


def _text(name_or_path: str) -> str:
    if name_or_path in names():
        return (
            resources.files("visolo_train.learning") / "recipes" / f"{name_or_path}.toml"
        ).read_text()
    path = Path(name_or_path)
    if path.suffix != ".toml":
        raise VisoloError(
            f"recipe '{name_or_path}' is unknown: choose {', '.join(names())}, or name a .toml file"
        )
    return read_text(path)


def _apply(document: dict[str, Any], change: str) -> None:
    name, equals, text = change.partition("=")
    keys = name.strip().split(".")
    if not equals or len(keys) < 2 or not all(keys):
        raise VisoloError(
            f"'{change}' is not a setting: write table.name=value, schedule.steps=200"
        )
    table = document
    for key in keys[:-1]:
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            raise VisoloError(f"'{change}' is not a setting: '{key}' is not a table")
    table[keys[-1]] = _value(text.strip())


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):  # TOML's error is a ValueError
        return text
