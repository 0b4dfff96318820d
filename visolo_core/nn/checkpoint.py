"""Our checkpoints: weights with their configuration and labels.

A checkpoint is a ``.safetensors`` file, or a ``.pt`` file of tensors and one string that
``torch.load(weights_only=True)`` reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from visolo_core.checkpoint_header import (
    METADATA_KEY,
    SAFETENSORS,
    CheckpointHeader,
    read_header,
)
from visolo_core.config import ModelConfig
from visolo_core.errors import VisoloError
from visolo_core.files import replaced
from visolo_core.nn.tensor_files import check_state, load_tensors, read_safetensors
from visolo_core.nn.visolo import Visolo


@dataclass(frozen=True)
class Checkpoint:
    """Weights with everything needed to use them."""

    header: CheckpointHeader
    state: dict[str, Tensor]
    """Parameters and buffers by our names."""

    def build(self) -> Visolo:
        """The network with these weights, in evaluation mode."""
        model = Visolo(self.header.config)
        model.load_state_dict(self.state)
        return model.eval()


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; the suffix of the path chooses ``.safetensors`` or ``.pt``.

    Raises:
        VisoloError: if the suffix is neither, or the file cannot be written.
    """
    header = checkpoint.header.to_json()
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.state.items()}
    if path.suffix == SAFETENSORS:
        from safetensors.torch import save_file

        with replaced(path) as temporary:
            save_file(state, temporary, metadata={METADATA_KEY: header})
    elif path.suffix in (".pt", ".pth"):
        with replaced(path) as temporary:
            torch.save({METADATA_KEY: header, "model": state}, temporary)
    else:
        raise VisoloError(f"'{path}' must end in .safetensors or .pt: choose one of these formats")


def load_checkpoint(path: Path) -> Checkpoint:
    """Read one of our checkpoints and check it.

    Raises:
        VisoloError: if it is missing, damaged, an official checkpoint, or does not match its own
            configuration.
    """
    if path.suffix == SAFETENSORS:
        header = read_header(path)
        state = read_safetensors(path)
    else:
        loaded = load_tensors(path)
        if METADATA_KEY not in loaded:
            raise VisoloError(
                f"'{path}' is not a visolo checkpoint; if it is an official one, "
                f"run: visolo convert {path} -o weights.safetensors"
            )
        header = CheckpointHeader.from_json(str(loaded[METADATA_KEY]), path)
        state = loaded.get("model", {})
        if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
            raise VisoloError(f"'{path}' is a damaged visolo checkpoint: it has no weights")
    check_state(state, expected_shapes(header.config), path)
    return Checkpoint(header, state)


def expected_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Shape of every parameter and buffer of a network, by our names."""
    with torch.device("meta"):
        state = Visolo(config).state_dict()
    return {name: tuple(tensor.shape) for name, tensor in state.items()}
