"""ResNet up to res4, from torchvision's blocks.

Stages and parameters bear torchvision's names (``layer1`` is res2), so ImageNet weights of
torchvision load as they are. Unlike a classifier it ends after res4, and its batch norms are
frozen: four constants a channel that :func:`fold_batch_norms` merges into the convolutions.
"""

from __future__ import annotations

import copy
from typing import NamedTuple, TypeVar, cast

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.ops import FrozenBatchNorm2d

Block = type[BasicBlock] | type[Bottleneck]
_BLOCKS: dict[str, tuple[Block, tuple[int, int, int]]] = {
    "resnet50": (Bottleneck, (3, 4, 6)),
    "resnet18": (BasicBlock, (2, 2, 2)),
}


class BackboneFeatures(NamedTuple):
    """Features of one image at three scales, float32."""

    res2: Tensor
    """[B, c2, H/4, W/4]"""
    res3: Tensor
    """[B, c3, H/8, W/8]"""
    res4: Tensor
    """[B, c4, H/16, W/16]"""


class Backbone(nn.Module):
    """Image to features at strides 4, 8 and 16."""

    def __init__(self, name: str) -> None:
        super().__init__()
        block, depths = _BLOCKS[name]
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = FrozenBatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.channels = tuple(planes * block.expansion for planes in (64, 128, 256))
        self.layer1 = _stage(block, 64, 64, depths[0], stride=1)
        self.layer2 = _stage(block, self.channels[0], 128, depths[1], stride=2)
        self.layer3 = _stage(block, self.channels[1], 256, depths[2], stride=2)

    def forward(self, image: Tensor) -> BackboneFeatures:
        """image: float32 [B, 3, H, W], normalised RGB."""
        stem = self.maxpool(self.relu(self.bn1(self.conv1(image))))
        res2 = self.layer1(stem)
        res3 = self.layer2(res2)
        res4 = self.layer3(res3)
        return BackboneFeatures(res2, res3, res4)


def _stage(block: Block, inputs: int, planes: int, depth: int, stride: int) -> nn.Sequential:
    outputs = planes * block.expansion
    shortcut = None
    if stride != 1 or inputs != outputs:
        shortcut = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), FrozenBatchNorm2d(outputs)
        )
    first = block(inputs, planes, stride, shortcut, norm_layer=FrozenBatchNorm2d)
    rest = [block(outputs, planes, norm_layer=FrozenBatchNorm2d) for _ in range(depth - 1)]
    return nn.Sequential(first, *rest)


Module = TypeVar("Module", bound=nn.Module)


def fold_batch_norms(module: Module) -> Module:
    """A copy in which every frozen batch norm is part of the convolution before it.

    The copy computes the same function with fewer operations and is meant for export alone.
    """
    folded = copy.deepcopy(module)
    for parent in list(folded.modules()):
        previous: nn.Module | None = None
        # torchvision's blocks and shortcuts declare each norm right after its convolution.
        for name, child in list(parent.named_children()):
            if isinstance(child, FrozenBatchNorm2d):
                _fold(cast(nn.Conv2d, _norm_input(parent, name, previous)), child)
                setattr(parent, name, nn.Identity())
            previous = child
    return folded


def _norm_input(parent: nn.Module, name: str, previous: nn.Module | None) -> nn.Module | None:
    # In torchvision's blocks bnN normalises convN, whatever the order of declaration.
    return getattr(parent, name.replace("bn", "conv")) if name.startswith("bn") else previous


@torch.no_grad()
def _fold(conv: nn.Conv2d, norm: FrozenBatchNorm2d) -> None:
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    bias = norm.bias - norm.running_mean * scale
    conv.weight = nn.Parameter(conv.weight * scale.view(-1, 1, 1, 1))
    conv.bias = nn.Parameter(bias if conv.bias is None else bias + conv.bias * scale)
