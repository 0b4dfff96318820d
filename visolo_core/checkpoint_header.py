"""The header of a checkpoint, read without PyTorch and without the weights."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from visolo_core.categories import LabelSet
from visolo_core.config import ModelConfig
from visolo_core.errors import VisoloError
from visolo_core.files import reason
from visolo_core.json_text import parse, text_of

CHECKPOINT_VERSION = 1
METADATA_KEY = "visolo"
SAFETENSORS = ".safetensors"
_MAX_HEADER = 100_000_000  # bytes; the format's own bound
_MAX_NUMBER = 1_000_000  # channels, classes or pixels
_WORDS = ("backbone", "backbone_norm")


@dataclass(frozen=True)
class CheckpointHeader:
    """The configuration and labels of a checkpoint."""

    config: ModelConfig
    labels: LabelSet

    def to_json(self) -> str:
        """The header as stored in the file."""
        return json.dumps(
            {
                "format_version": CHECKPOINT_VERSION,
                "config": asdict(self.config),
                "labels": asdict(self.labels),
            }
        )

    @classmethod
    def from_json(cls, text: str, path: Path) -> CheckpointHeader:
        """Read a header.

        Raises:
            VisoloError: if it has another version or is damaged.
        """
        try:
            values = parse(text)
            version, header = values["format_version"], None
            if version == CHECKPOINT_VERSION:
                header = cls(_config(values["config"]), _labels(values["labels"]))
        except (ValueError, KeyError, TypeError, AttributeError, VisoloError) as error:
            raise VisoloError(f"'{path}' has a damaged checkpoint header: {error}") from error
        if header is None:
            raise VisoloError(
                f"'{path}' has checkpoint format {version}, but this visolo reads "
                f"{CHECKPOINT_VERSION}: update visolo, or convert the weights again"
            )
        if len(header.labels) != header.config.classes:
            raise VisoloError(
                f"'{path}' names {len(header.labels)} labels for {header.config.classes} classes"
            )
        return header


def _config(values: dict[str, Any]) -> ModelConfig:
    """A configuration, each value of its type: a dataclass accepts any."""
    values = {**values, **{name: tuple(values[name]) for name in ("grid", "input_size")}}
    config = ModelConfig(**values)
    numbers = [
        (field.name, number)
        for field in fields(ModelConfig)
        for number in _each(getattr(config, field.name))
    ]
    for name, number in numbers:
        if isinstance(number, str) != (name in _WORDS) or type(number) not in (int, str):
            raise TypeError(f"{name} is {number!r}")
        if isinstance(number, int) and number > _MAX_NUMBER:
            raise ValueError(f"{name} is {number}, which is more than any network has")
    if len(config.grid) != 2:
        raise ValueError(f"grid has {len(config.grid)} numbers, not 2")
    return config


def _each(value: Any) -> Iterable[Any]:
    if value is None:
        return ()
    return value if isinstance(value, tuple) else (value,)


def _labels(values: dict[str, Any]) -> LabelSet:
    ids, names = values["ids"], values["names"]
    if not all(type(number) is int for number in ids):
        raise TypeError("a category's id is not a whole number")
    if not all(isinstance(name, str) for name in (values["name"], *names)):
        raise TypeError("a category's name is not text")
    return LabelSet(values["name"], tuple(ids), tuple(names))


def read_header(path: Path) -> CheckpointHeader:
    """Read the header of one of our ``.safetensors`` files, without PyTorch or the weights.

    Raises:
        VisoloError: if the file is missing, damaged or has no header.
    """
    metadata = read_metadata(path)
    if METADATA_KEY not in metadata:
        raise VisoloError(
            f"'{path}' is a safetensors file without visolo's header: name visolo weights, or if "
            f"it is an official checkpoint, run: visolo convert {path} -o weights.safetensors"
        )
    return CheckpointHeader.from_json(metadata[METADATA_KEY], path)


def read_metadata(path: Path) -> dict[str, str]:
    """What a ``.safetensors`` file says about itself.

    Raises:
        VisoloError: if the file is missing or damaged.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(size, _MAX_HEADER):
                raise ValueError("it is cut short")
            metadata = parse(text_of(file.read(length))).get("__metadata__") or {}
        if not all(isinstance(value, str) for value in metadata.values()):
            raise ValueError("its metadata are not text")
    except OSError as error:
        raise VisoloError(f"cannot read '{path}': {reason(error)}") from error
    except (ValueError, struct.error, AttributeError) as error:
        raise VisoloError(f"'{path}' is damaged or not a safetensors file: {error}") from error
    return dict(metadata)


def is_weights_file(path: Path) -> bool:
    """Whether a file name is that of a checkpoint."""
    return path.suffix in (SAFETENSORS, ".pt", ".pth")
