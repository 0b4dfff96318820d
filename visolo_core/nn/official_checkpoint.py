"""Converting official checkpoints, ``{"model": {333 parameters and 24 aliases}, ...}``, to ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from visolo_core.categories import LabelSet, labels_for_class_count
from visolo_core.checkpoint_header import METADATA_KEY, SAFETENSORS, CheckpointHeader, read_metadata
from visolo_core.config import PAPER, ModelConfig
from visolo_core.errors import VisoloError
from visolo_core.nn.checkpoint import Checkpoint, expected_shapes
from visolo_core.nn.initialise import initialise_classifier
from visolo_core.nn.official_names import CLASSIFIER, official_name
from visolo_core.nn.tensor_files import check_state, is_plain, load_tensors, read_safetensors
from visolo_core.nn.weight_sets import choose_weights

_OFFICIAL_CLASSIFIER_WEIGHT = official_name(f"{CLASSIFIER}.weight")


def is_official(path: Path) -> bool:
    """Whether a ``.pth`` or ``.pt`` file is not one of ours, so that it has to be official.

    Raises:
        VisoloError: if it is missing, damaged or holds code.
    """
    return METADATA_KEY not in load_tensors(path)


def load_official(
    path: Path, labels: LabelSet | None, new_classifier: bool = False, choice: str = ""
) -> tuple[Checkpoint, str | None]:
    """Read an official checkpoint.

    Args:
        path: the ``.pth`` file, or the same tensors as ``.safetensors``.
        labels: its label set; None means the data set with as many classes.
        new_classifier: replace the classifier by a new one for ``labels``, to fine-tune from a
            checkpoint with another class count; everything else is kept.
        choice: of several sets of weights, see :func:`visolo_core.nn.weight_sets.choose_weights`.

    Returns:
        the checkpoint, and a sentence about the new classifier if there is one.

    Raises:
        VisoloError: if the file is missing, damaged or holds code, holds several sets of weights
            and none is chosen, or its keys, shapes or class count are wrong.
    """
    loaded = _load(path)
    chosen = choose_weights(loaded, path, choice)
    weights = chosen.tensors
    classifier = weights.get(_OFFICIAL_CLASSIFIER_WEIGHT)
    if not is_plain(classifier) or classifier.ndim != 4:
        raise VisoloError(f"'{path}' has no usable classifier '{_OFFICIAL_CLASSIFIER_WEIGHT}'")
    config = PAPER.with_classes(classifier.shape[0])
    shapes = expected_shapes(config)
    check_state(weights, {official_name(name): shape for name, shape in shapes.items()}, path)
    state = {name: weights[official_name(name)].float() for name in shapes}

    labels = labels or labels_for_class_count(config.classes)
    if new_classifier:
        config, sentence = _replace_classifier(state, config, labels)
        return Checkpoint(CheckpointHeader(config, labels), state), sentence
    if len(labels) != config.classes:
        raise VisoloError(
            f"'{path}' has {config.classes} classes but label set '{labels.name}' has "
            f"{len(labels)}: name the right --labels, or pass --new-classifier to fine-tune"
        )
    return Checkpoint(CheckpointHeader(config, labels), state), None


def _load(path: Path) -> dict[str, Any]:
    """The content of a file that is not one of ours."""
    if path.suffix == SAFETENSORS:
        loaded, ours = dict[str, Any](read_safetensors(path)), METADATA_KEY in read_metadata(path)
    else:
        loaded = load_tensors(path)
        ours = METADATA_KEY in loaded
    if ours:
        raise VisoloError(f"'{path}' is already a visolo checkpoint: use it without converting")
    return loaded


def _replace_classifier(
    state: dict[str, Tensor], config: ModelConfig, labels: LabelSet
) -> tuple[ModelConfig, str]:
    classifier = torch.nn.Conv2d(config.width, len(labels), 3, padding=1)
    initialise_classifier(classifier)
    state[f"{CLASSIFIER}.weight"] = classifier.weight.detach()
    state[f"{CLASSIFIER}.bias"] = classifier.bias.detach()  # type: ignore[union-attr]
    return config.with_classes(len(labels)), (
        f"the classifier ({config.classes} classes) was replaced by a new one for {len(labels)} "
        f"classes of '{labels.name}'; all other weights are kept. Train before use."
    )
