"""A network that has learned nothing and yet behaves on video, for tests that need no more."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from visolo_core.config import ModelConfig
from visolo_core.nn.initialise import offset_products
from visolo_core.nn.visolo import Visolo


@torch.no_grad()
def untrained(config: ModelConfig, seed: int = 0) -> Visolo:
    """A network with random weights, the same for a seed, in evaluation mode.

    The classifier is loud enough for some cells to
    pass the score threshold, kernels draw blobs, and most cells of a frame match none of another.
    """
    model = Visolo(config)
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            fan_in = module.weight[0].numel()
            module.weight.normal_(0, math.sqrt(2 / fan_in), generator=generator)
            # Filters without a mean answer to structure, not to brightness.
            module.weight.sub_(module.weight.mean(dim=(1, 2, 3), keepdim=True))
            if module.bias is not None:
                module.bias.zero_()
    offset_products(model, match=-6.0, mask=-2.0)
    classifier = model.category_branch.classifier
    classifier.weight.mul_(2)
    nn.init.constant_(cast(Tensor, classifier.bias), -7.0)
    return model.eval()
