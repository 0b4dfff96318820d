"""The weights that a training starts from."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from torch import Tensor

from visolo_core.errors import VisoloError
from visolo_core.files import reason
from visolo_core.nn import Visolo
from visolo_core.nn.checkpoint import load_checkpoint
from visolo_core.nn.initialise import ready_to_train
from visolo_core.nn.tensor_files import check_state, load_tensors, read_safetensors
from visolo_train.learning.recipe import NetworkTable, StartTable

IMAGENET = "imagenet"
_CLASSIFIER = "category_branch.classifier."


def build_network(network: NetworkTable, start: StartTable) -> Visolo:
    """The network of a recipe, with its initial weights and its frozen parts frozen.

    Raises:
        VisoloError: if weights are missing or do not fit.
    """
    config = network.config()
    if start.frozen and config.backbone_norm != "frozen":
        raise VisoloError(
            "start.frozen needs network.backbone_norm = 'frozen': batch norms that learn would "
            "still follow the data"
        )
    model = ready_to_train(config, start.seed)
    if start.backbone:
        load_backbone(model, start.backbone)
    if start.weights:
        _load_weights(model, start.weights)
    for name in start.frozen:
        getattr(model.backbone, name).requires_grad_(False)
    return model


def load_backbone(model: Visolo, source: str) -> None:
    """Load the weights of torchvision's classifier into the backbone.

    Args:
        model: a network whose backbone has torchvision's width.
        source: ``imagenet``, which downloads them once, or a file of them (.pth, .safetensors).

    Raises:
        VisoloError: if they cannot be obtained, or belong to another network.
    """
    path = Path(source)
    if source == IMAGENET:
        state = _imagenet(model.config.backbone)
    else:
        state = read_safetensors(path) if path.suffix == ".safetensors" else load_tensors(path)
    backbone = model.backbone.state_dict()
    state = {name: value for name, value in state.items() if not name.startswith(_UNUSED)}
    # Frozen norms have no batch counter, and older files lack it: the network's own are kept.
    counters = {name: value for name, value in backbone.items() if name.endswith(_COUNTER)}
    state = {name: value for name, value in state.items() if not name.endswith(_COUNTER)}
    state |= counters
    check_state(state, {name: tuple(each.shape) for name, each in backbone.items()}, path)
    model.backbone.load_state_dict(state)


_UNUSED = ("layer4.", "fc.")
_COUNTER = "num_batches_tracked"


def _imagenet(backbone: str) -> dict[str, Any]:
    from torchvision.models import get_model_weights

    weights = get_model_weights(backbone).DEFAULT
    try:
        return dict(
            torch.hub.load_state_dict_from_url(
                weights.url, progress=False, check_hash=True, map_location="cpu", weights_only=True
            )
        )
    except (URLError, OSError, RuntimeError) as error:
        why = reason(error) if isinstance(error, OSError) else str(error)
        raise VisoloError(
            f"cannot download {weights.url} ({why}): download it on a machine with network access, "
            "and name the file with start.backbone=FILE"
        ) from error


def _load_weights(model: Visolo, path: Path) -> None:
    """Load a checkpoint; a classifier of other categories is initialised again."""
    checkpoint = load_checkpoint(path)
    ours: dict[str, Tensor] = model.state_dict()
    state = dict(checkpoint.state)
    if checkpoint.header.config.classes != model.config.classes:
        state |= {name: each for name, each in ours.items() if name.startswith(_CLASSIFIER)}
    check_state(state, {name: tuple(each.shape) for name, each in ours.items()}, path)
    model.load_state_dict(state)
