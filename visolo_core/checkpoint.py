"""Our checkpoints, which carry configuration and labels with the weights.

A checkpoint is a ``.safetensors`` file, or a ``.pt`` file of tensors and one string that
``torch.load(weights_only=True)`` reads.
"""

from __future__ import annotations

import json
import struct
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from visolo_core.categories import LabelSet
from visolo_core.config import ModelConfig
from visolo_core.errors import VisoloError
from visolo_core.files import reason, replaced
from visolo_core.tensor_files import check_state, load_tensors, read_safetensors

if TYPE_CHECKING:
    from torch import Tensor

    from visolo_core.nn import Visolo

FORMAT_VERSION = 1
METADATA_KEY = "visolo"
SAFETENSORS = ".safetensors"


@dataclass(frozen=True)
class CheckpointHeader:
    """What a checkpoint says of itself."""

    config: ModelConfig
    labels: LabelSet

    def to_json(self) -> str:
        """The header as it stands in the file."""
        return json.dumps(
            {
                "format_version": FORMAT_VERSION,
                "config": asdict(self.config),
                "labels": asdict(self.labels),
            }
        )

    @classmethod
    def from_json(cls, text: str, path: Path) -> CheckpointHeader:
        """Read a header.

        Raises:
            VisoloError: if it is of a later version or not whole.
        """
        try:
            fields = json.loads(text)
            version = fields["format_version"]
            if version != FORMAT_VERSION:
                raise VisoloError(
                    f"'{path}' has checkpoint format {version}, this visolo reads "
                    f"{FORMAT_VERSION}: update visolo, or convert the weights again"
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


@dataclass(frozen=True)
class Checkpoint:
    """Weights with all that is needed to use them."""

    header: CheckpointHeader
    state: dict[str, Tensor]
    """Parameters and buffers by our names."""

    def build(self) -> Visolo:
        """The network with these weights, in evaluation mode."""
        from visolo_core.nn import Visolo

        model = Visolo(self.header.config)
        model.load_state_dict(self.state)
        return model.eval()


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; ``.safetensors`` or ``.pt`` by the name's ending.

    Raises:
        VisoloError: if the ending is another, or the file cannot be written.
    """
    header = checkpoint.header.to_json()
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.state.items()}
    if path.suffix == SAFETENSORS:
        from safetensors.torch import save_file

        with replaced(path) as temporary:
            save_file(state, temporary, metadata={METADATA_KEY: header})
    elif path.suffix in (".pt", ".pth"):
        import torch

        with replaced(path) as temporary:
            torch.save({METADATA_KEY: header, "model": state}, temporary)
    else:
        raise VisoloError(f"'{path}' must end in .safetensors or .pt to say how weights are stored")


def load_checkpoint(path: Path) -> Checkpoint:
    """Read one of our checkpoints, whole and checked.

    Raises:
        VisoloError: if it is missing, damaged, official, or does not fit its own configuration.
    """
    if path.suffix == SAFETENSORS:
        header = read_header(path)
        state = read_safetensors(path)
    else:
        loaded = load_tensors(path)
        if METADATA_KEY not in loaded:
            if "model" in loaded:
                raise VisoloError(
                    f"'{path}' is not a visolo checkpoint; if it is an official one, "
                    f"run: visolo convert {path} -o weights.safetensors"
                )
            raise VisoloError(f"'{path}' holds no visolo weights")
        header = CheckpointHeader.from_json(str(loaded[METADATA_KEY]), path)
        state = loaded["model"]
    check_state(state, expected_shapes(header.config), path)
    return Checkpoint(header, state)


def read_header(path: Path) -> CheckpointHeader:
    """The header of one of our ``.safetensors`` files, without PyTorch and without the weights.

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
        raise VisoloError(f"'{path}' is not a whole safetensors file: {error}") from error
    if METADATA_KEY not in metadata:
        raise VisoloError(f"'{path}' is a safetensors file, but not of visolo: it has no header")
    return CheckpointHeader.from_json(metadata[METADATA_KEY], path)


def is_weights_file(path: Path) -> bool:
    """Whether a name is that of a checkpoint."""
    return path.suffix in (SAFETENSORS, ".pt", ".pth")


def expected_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Shape of every parameter and buffer of a network, by our names."""
    import torch

    from visolo_core.nn import Visolo

    with torch.device("meta"):
        state = Visolo(config).state_dict()
    return {name: tuple(tensor.shape) for name, tensor in state.items()}
