"""Converting official checkpoints, ``{"model": {333 parameters and 24 aliases}, ...}``, to ours."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from visolo_core.categories import LabelSet, labels_for_class_count
from visolo_core.checkpoint_header import METADATA_KEY, SAFETENSORS, CheckpointHeader
from visolo_core.config import PAPER, ModelConfig
from visolo_core.errors import VisoloError
from visolo_core.nn.checkpoint import Checkpoint, expected_shapes
from visolo_core.nn.initialise import initialise_classifier
from visolo_core.nn.official_names import ALIAS_PREFIX, CLASSIFIER, PREFIX, official_name
from visolo_core.nn.tensor_files import check_state, load_tensors

_OFFICIAL_CLASSIFIER_WEIGHT = official_name(f"{CLASSIFIER}.weight")


def is_official(path: Path) -> bool:
    """Whether a ``.pth`` or ``.pt`` file is not one of ours, so that it has to be official.

    Raises:
        VisoloError: if it is missing, damaged or holds code.
    """
    return METADATA_KEY not in load_tensors(path)


def load_official(
    path: Path, labels: LabelSet | None, new_classifier: bool = False
) -> tuple[Checkpoint, str | None]:
    """Read an official checkpoint.

    Args:
        path: the ``.pth`` file.
        labels: its label set; None means the data set with as many classes.
        new_classifier: replace the classifier by a new one for ``labels``, to fine-tune from a
            checkpoint with another class count; everything else is kept.

    Returns:
        the checkpoint, and a sentence about the new classifier if there is one.

    Raises:
        VisoloError: if the file is missing, damaged or holds code, or its keys, shapes or class
            count are wrong.
    """
    if path.suffix == SAFETENSORS:
        raise VisoloError(f"'{path}' is a safetensors file; official checkpoints are .pth files")
    loaded = load_tensors(path)
    weights = loaded.get("model")
    if METADATA_KEY in loaded:
        raise VisoloError(f"'{path}' is already a visolo checkpoint: use it without converting")
    named = isinstance(weights, Mapping) and all(isinstance(name, str) for name in weights)
    if not weights or not named:
        raise VisoloError(
            f"'{path}' is not an official checkpoint: it has no 'model' with parameters"
        )
    # Some are saved from the bare network, without the prefix.
    if not any(name.startswith(PREFIX) for name in weights):
        weights = {PREFIX + name: tensor for name, tensor in weights.items()}
    weights = {
        name: tensor for name, tensor in weights.items() if not name.startswith(ALIAS_PREFIX)
    }

    classifier = weights.get(_OFFICIAL_CLASSIFIER_WEIGHT)
    if classifier is None or getattr(classifier, "ndim", 0) != 4:
        raise VisoloError(f"'{path}' has no classifier '{_OFFICIAL_CLASSIFIER_WEIGHT}'")
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
