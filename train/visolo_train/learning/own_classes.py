"""A training on a user's own classes, without a recipe: one is made from the data and the network
to start from.

The folder of the training gets ``recipe.toml``, which can be edited and trained again, and the two
parts of the data set that it names, ``training/NAME.json`` and ``held_out/NAME.json``.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from visolo_core.categories import LabelSet
from visolo_core.checkpoint_header import SAFETENSORS, CheckpointHeader, read_header
from visolo_core.config import PRESETS, ModelConfig
from visolo_core.errors import VisoloError
from visolo_core.files import read_json, reason, replaced
from visolo_core.nn.checkpoint import load_checkpoint, save_checkpoint
from visolo_core.nn.official_checkpoint import is_official, load_official
from visolo_runtime.models.shipped import SHIPPED
from visolo_train.data.own_data import OwnData, as_document
from visolo_train.learning.recipe import Recipe, change, checked
from visolo_train.learning.settings import settings_for
from visolo_train.learning.start import weights_file

RECIPE_FILE = "recipe.toml"
START_FILE = "start.safetensors"
_PARTS = ("training", "held_out")  # of the data set, by the folder of their files


@dataclass(frozen=True)
class OwnTraining:
    """A training on a user's own classes, before it begins."""

    recipe: Recipe
    files: dict[str, str]
    """Content of the files that the recipe names, and the recipe itself, by their path in the
    folder of the training."""
    official: Path | None
    """The official checkpoint that has to be converted to ``START_FILE``."""
    notes: tuple[str, ...]


def own_training(
    source: str,
    data: OwnData,
    folder: Path,
    backgrounds: Path | None = None,
    changes: Sequence[str] = (),
) -> OwnTraining:
    """Settings and files of a training.

    Args:
        source: the network to start from: ``everyday``, ``shapes``, visolo weights or an official
            checkpoint.
        data: the data set.
        folder: of the training.
        backgrounds: folder of pictures that show none of the classes.
        changes: of single settings, as for :func:`visolo_train.learning.recipe.read_recipe`.

    Raises:
        VisoloError: if the network cannot be read or is another one, or a change is unusable.
    """
    weights, official = source, None
    if source not in SHIPPED:
        path = Path(source).absolute()
        weights = str(path)
        if path.is_dir():
            raise VisoloError(
                f"'{source}' is a folder: a training starts from weights (.safetensors, .pt), such "
                "as those that a bundle was exported from"
            )
        if path.suffix != SAFETENSORS and is_official(path):
            official, weights = path, str(folder.absolute() / START_FILE)
    config = _header(Path(source), official).config
    labels = data.training.labels
    where = {part: folder.absolute() / part / f"{labels.name}.json" for part in _PARTS}
    document: dict[str, Any] = {
        "network": _network(config, where["training"]),
        "start": {"weights": weights, "same_classes": True},
        "data": {
            "own": {
                "kind": "pasted",
                "annotations": str(where["training"]),
                "images": str(data.images),
                **({"backgrounds": str(backgrounds.absolute())} if backgrounds else {}),
            }
        },
        "validation": {"annotations": str(where["held_out"]), "images": str(data.images)},
    }
    for table, values in settings_for(config, data.frames).items():
        target = document["data"]["own"] if table == "data" else document.setdefault(table, {})
        target.update(values)
    change(document, list(changes))
    # Labels come from a file that is not there yet.
    recipe = checked(document, "the settings")
    files = {
        f"training/{labels.name}.json": json.dumps(as_document(data.training)),
        f"held_out/{labels.name}.json": json.dumps(as_document(data.held_out)),
        RECIPE_FILE: _as_toml(document, source, labels),
    }
    return OwnTraining(recipe, files, official, data.notes)


@contextmanager
def prepared(training: OwnTraining, folder: Path) -> Iterator[None]:
    """Write the files of a training; a folder that was made for them goes if the block fails.

    Raises:
        VisoloError: if they cannot be written, or the folder holds a training on other data.
    """
    is_new = not folder.exists()
    try:
        if (folder / "checkpoint.pt").exists():
            _check_data(training, folder)
        else:
            _write(training, folder)
        yield
    except BaseException:
        if is_new:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _write(training: OwnTraining, folder: Path) -> None:
    try:
        for name, text in training.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            with replaced(folder / name) as temporary:
                temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise VisoloError(f"cannot write '{folder}': {reason(error)}") from error
    except UnicodeEncodeError as error:
        raise VisoloError(
            f"'{folder}', the data or the frames have a path that is not UTF-8: rename it"
        ) from error
    if training.official is not None:
        save_checkpoint(folder / START_FILE, load_official(training.official, None)[0])


def _check_data(training: OwnTraining, folder: Path) -> None:
    for name, text in training.files.items():
        if name.endswith(".json") and read_json(folder / name) != json.loads(text):
            raise VisoloError(
                f"'{folder}' holds a training on other data than '{Path(name).name}' has: name "
                "another folder with -o"
            )


def _header(source: Path, official: Path | None) -> CheckpointHeader:
    if official is not None:
        return load_official(official, None)[0].header
    path = weights_file(source)
    return read_header(path) if path.suffix == SAFETENSORS else load_checkpoint(path).header


def _network(config: ModelConfig, labels: Path) -> dict[str, Any]:
    """The table ``network``: the nearest preset and all differences."""
    preset = "r50" if config.mask_width is None else "lite"
    table: dict[str, Any] = {"preset": preset, "labels": str(labels)}
    for field in fields(ModelConfig):
        value = getattr(config, field.name)
        if field.name != "classes" and value != getattr(PRESETS[preset], field.name):
            table[field.name] = list(value) if isinstance(value, tuple) else value
    return table


def _as_toml(document: dict[str, Any], source: str, labels: LabelSet) -> str:
    """A recipe as text; tables may hold tables."""
    names = [json.dumps(each, ensure_ascii=False) for each in (source, f"{labels.name}.json")]
    lines = [
        f"# Made by visolo train --from {names[0]} --data {names[1]}. To train it again:",
        "# visolo train recipe.toml -o FOLDER",
    ]

    def write(name: str, table: dict[str, Any]) -> None:
        plain = {key: each for key, each in table.items() if not isinstance(each, dict)}
        if plain:
            lines.extend(["", f"[{name}]"])
            # What json writes of strings, numbers and lists of them is TOML too.
            lines.extend(
                f"{key} = {json.dumps(each, ensure_ascii=False)}" for key, each in plain.items()
            )
        for key, each in table.items():
            if isinstance(each, dict):
                write(f"{name}.{key}", each)

    for name, table in document.items():
        write(name, table)
    # The one character that json leaves as it is and TOML does not.
    return "\n".join(lines).replace("\x7f", "\\u007f") + "\n"
