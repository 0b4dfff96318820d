"""Initial weights of a network that has not been trained."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import nn

from visolo_core.config import ModelConfig
from visolo_core.nn.layers import ConvNorm
from visolo_core.nn.mobilenet import MobileNetV2
from visolo_core.nn.visolo import Visolo

PRIOR = 0.01
"""Class probability of every cell before training, low since most cells are empty."""


@torch.no_grad()
def initialise_classifier(classifier: nn.Conv2d, seed: int = 0) -> None:
    """Small normal weights, and a bias that gives ``PRIOR`` everywhere; a seed fixes them."""
    generator = torch.Generator().manual_seed(seed)
    classifier.weight.normal_(0, 0.01, generator=generator)
    if classifier.bias is not None:
        classifier.bias.fill_(-math.log((1 - PRIOR) / PRIOR))


@torch.no_grad()
def ready_to_train(config: ModelConfig, seed: int = 0) -> Visolo:
    """A network with random weights to start training from; a seed fixes them.

    The first losses are small: class probabilities start at ``PRIOR``, matches at 0.01, and mask
    logits near zero, where the Dice loss has a gradient.
    """
    model = Visolo(config)
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            fan_in = module.weight[0].numel()
            module.weight.normal_(0, math.sqrt(2 / fan_in), generator=generator)
            if module.bias is not None:
                module.bias.zero_()
    if isinstance(model.backbone, MobileNetV2):
        model.backbone.begin_without_depth()
    offset_products(model, match=-math.log((1 - PRIOR) / PRIOR), mask=-1.0)
    initialise_classifier(model.category_branch.classifier, seed)
    return model.train()


def offset_products(model: Visolo, match: float, mask: float) -> None:
    """Add an offset to inner products: the first channel of both sides becomes constant."""
    query, key = (cast(ConvNorm, head[1]).norm for head in _tracking_heads(model))
    features, kernels = model.mask_branch.predict.norm, model.kernel_branch.predict.norm
    for constant, offset_side, offset in ((query, key, match), (features, kernels, mask)):
        offset_side.weight.mul_(0.35)
        for norm, value in ((constant, 1.0), (offset_side, offset)):
            norm.weight[0] = 0
            norm.bias[0] = value


def _tracking_heads(model: Visolo) -> tuple[nn.Sequential, nn.Sequential]:
    return model.tracking_branch.query, model.tracking_branch.key
