"""The header of a checkpoint, read without PyTorch and without the weights."""

from __future__ import annotations

import json
import struct
from dataclasses import asdict, dataclass
from pathlib import Path

from visolo_core.categories import LabelSet
from visolo_core.config import ModelConfig
from visolo_core.errors import VisoloError
from visolo_core.files import reason

CHECKPOINT_VERSION = 1
METADATA_KEY = "visolo"
SAFETENSORS = ".safetensors"


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
            fields = json.loads(text)
            version = fields["format_version"]
            if version != CHECKPOINT_VERSION:
                raise VisoloError(
                    f"'{path}' has checkpoint format {version}, but this visolo reads "
                    f"{CHECKPOINT_VERSION}: update visolo, or convert the weights again"
                )
            config, labels = fields["config"], fields["labels"]
            for name in ("grid", "input_size"):
                config[name] = tuple(config[name])
            header = cls(
                ModelConfig(**config),
                LabelSet(labels["name"], tuple(labels["ids"]), tuple(labels["names"])),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise VisoloError(f"'{path}' has a damaged checkpoint header: {error}") from error
        if len(header.labels) != header.config.classes:
            raise VisoloError(
                f"'{path}' names {len(header.labels)} labels for {header.config.classes} classes"
            )
        return header


def read_header(path: Path) -> CheckpointHeader:
    """Read the header of one of our ``.safetensors`` files, without PyTorch or the weights.

    Raises:
        VisoloError: if the file is missing, damaged or has no header.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > size:
                raise ValueError("it is cut short")
            metadata = json.loads(file.read(length)).get("__metadata__") or {}
    except OSError as error:
        raise VisoloError(f"cannot read '{path}': {reason(error)}") from error
    except (ValueError, struct.error, AttributeError) as error:
        raise VisoloError(f"'{path}' is damaged or not a safetensors file: {error}") from error
    if METADATA_KEY not in metadata:
        raise VisoloError(
            f"'{path}' is a safetensors file without visolo's header: name visolo weights"
        )
    return CheckpointHeader.from_json(metadata[METADATA_KEY], path)


def is_weights_file(path: Path) -> bool:
    """Whether a file name is that of a checkpoint."""
    return path.suffix in (SAFETENSORS, ".pt", ".pth")
