"""The trunks, cut at stride 16: ResNets here, from torchvision's blocks, and a MobileNetV2.

Stages and parameters have torchvision's names (``layer1`` is res2), so torchvision's ImageNet
weights load unchanged. Batch norms are frozen constants (the paper) or trainable (training from
scratch); :func:`fold_batch_norms` merges either into the convolutions.
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple, TypeVar, cast

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.ops import FrozenBatchNorm2d

from visolo_core.config import MOBILENET_PYRAMID, MOBILENETS
from visolo_core.nn.mobilenet import MobileNetV2

_NORMS: dict[str, type[nn.Module]] = {"frozen": FrozenBatchNorm2d, "batch": nn.BatchNorm2d}
Block = type[BasicBlock] | type[Bottleneck]
_BLOCKS: dict[str, tuple[Block, tuple[int, int, int]]] = {
    "resnet50": (Bottleneck, (3, 4, 6)),
    "resnet18": (BasicBlock, (2, 2, 2)),
}


class BackboneFeatures(NamedTuple):
    """Features of the images at three scales, float32."""

    res2: Tensor
    """[B, c2, H/4, W/4]"""
    res3: Tensor
    """[B, c3, H/8, W/8]"""
    res4: Tensor
    """[B, c4, H/16, W/16]"""


class Backbone(nn.Module):
    """A ResNet: image to features at strides 4, 8 and 16.

    Args:
        name: ``resnet50`` or ``resnet18``.
        width: channels of the stem; 64 is torchvision's.
        norm: ``frozen`` or ``batch``.
    """

    def __init__(self, name: str, width: int = 64, norm: str = "frozen") -> None:
        super().__init__()
        block, depths = _BLOCKS[name]
        norm_layer = _NORMS[norm]
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = norm_layer(width)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        planes = (width, 2 * width, 4 * width)
        inputs = (width, *(each * block.expansion for each in planes))
        self.layer1, self.layer2, self.layer3 = (
            _stage(block, inputs[at], planes[at], depths[at], 1 if at == 0 else 2, norm_layer)
            for at in range(3)
        )

    def forward(self, image: Tensor) -> BackboneFeatures:
        """Features of an image, float32 [B, 3, H, W], normalised RGB."""
        stem = self.maxpool(self.relu(self.bn1(self.conv1(image))))
        res2 = self.layer1(stem)
        res3 = self.layer2(res2)
        res4 = self.layer3(res3)
        return BackboneFeatures(res2, res3, res4)


def _stage(
    block: Block, inputs: int, planes: int, depth: int, stride: int, norm_layer: type[nn.Module]
) -> nn.Sequential:
    outputs = planes * block.expansion
    shortcut = None
    if stride != 1 or inputs != outputs:
        shortcut = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), norm_layer(outputs)
        )
    first = block(inputs, planes, stride, shortcut, norm_layer=norm_layer)
    rest = [block(outputs, planes, norm_layer=norm_layer) for _ in range(depth - 1)]
    return nn.Sequential(first, *rest)


def build_backbone(name: str, width: int, norm: str) -> Backbone | MobileNetV2:
    """The trunk of a configuration; each gives its features at strides 4, 8 and 16."""
    if name in MOBILENETS:
        return MobileNetV2(_NORMS[norm], pyramid=name == MOBILENET_PYRAMID)
    return Backbone(name, width, norm)


Module = TypeVar("Module", bound=nn.Module)


def fold_batch_norms(module: Module) -> Module:
    """A copy in which every batch norm of the backbone is merged into its convolution.

    The copy computes the same as the module in evaluation mode, with fewer operations. It is meant
    for export only.
    """
    folded = copy.deepcopy(module)
    for parent in list(folded.modules()):
        previous: nn.Module | None = None
        # torchvision's blocks and shortcuts declare each norm right after its convolution.
        for name, child in list(parent.named_children()):
            if isinstance(child, (FrozenBatchNorm2d, nn.BatchNorm2d)):
                _fold(cast(nn.Conv2d, _norm_input(parent, name, previous)), child)
                setattr(parent, name, nn.Identity())
            previous = child
    return folded


def _norm_input(parent: nn.Module, name: str, previous: nn.Module | None) -> nn.Module | None:
    # In torchvision's blocks bnN normalises convN, whatever the order of declaration.
    return getattr(parent, name.replace("bn", "conv")) if name.startswith("bn") else previous


@torch.no_grad()
def _fold(conv: nn.Conv2d, norm: Any) -> None:
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    bias = norm.bias - norm.running_mean * scale
    conv.weight = nn.Parameter(conv.weight * scale.view(-1, 1, 1, 1))
    conv.bias = nn.Parameter(bias if conv.bias is None else bias + conv.bias * scale)
