"""MobileNetV2, the trunk for processors without a GPU.

Modules have torchvision's names, so that torchvision's ImageNet weights load unchanged. A
classifier goes on for five more blocks at stride 32. This trunk ends at block 13, at stride 16, or
adds to it what the next three blocks make of the picture (a feature pyramid's way down).
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

# Expansion, output channels, number of blocks, stride of the first: torchvision's table, up to
# block 13 and up to block 16.
_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1))
_DEEP_STAGE = (6, 160, 3, 2)
_STEM = 32  # channels
OUTPUTS = (3, 6, 13)
"""The blocks whose outputs are used, at strides 4, 8 and 16; block 0 is the stem."""
LATERAL = "lateral."
"""What the names of the parameters begin with that no classifier has."""


class MobileNetV2(nn.Module):
    """Image to features at strides 4, 8 and 16, with 24, 32 and 96 channels.

    Args:
        norm_layer: ``FrozenBatchNorm2d`` or ``nn.BatchNorm2d``.
        pyramid: whether blocks 14 to 16, at stride 32, add to the features at stride 16. What they
            add is nothing until it is trained.
    """

    def __init__(self, norm_layer: type[nn.Module], pyramid: bool = False) -> None:
        super().__init__()
        blocks: list[nn.Module] = [_conv_norm(3, _STEM, norm_layer, kernel_size=3, stride=2)]
        inputs = _STEM
        stages = (*_STAGES, _DEEP_STAGE) if pyramid else _STAGES
        for expansion, outputs, count, stride in stages:
            for at in range(count):
                first = stride if at == 0 else 1
                blocks.append(_InvertedResidual(inputs, outputs, expansion, first, norm_layer))
                inputs = outputs
        self.features = nn.Sequential(*blocks)
        self.lateral: nn.Conv2d | None = None
        if pyramid:
            self.lateral = nn.Conv2d(inputs, _STAGES[-1][1], 1)
        self.begin_without_depth()

    @torch.no_grad()
    def begin_without_depth(self) -> None:
        """Make what stride 32 adds to stride 16 nothing, from where it is learnt."""
        if self.lateral is not None:
            self.lateral.weight.zero_()
            cast(Tensor, self.lateral.bias).zero_()

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[B, 24, H/4, W/4], [B, 32, H/8, W/8] and [B, 96, H/16, W/16] of a normalised RGB image,
        float32 [B, 3, H, W]."""
        if self.training:
            # Depthwise convolutions are up to three times as fast with the channels last.
            image = image.contiguous(memory_format=torch.channels_last)
        outputs = []
        for number, block in enumerate(self.features):
            image = block(image)
            if number in OUTPUTS:
                outputs.append(image)
        res2, res3, res4 = outputs
        if self.lateral is not None:
            deep = self.lateral(image)
            deep = F.interpolate(deep, res4.shape[-2:], mode="bilinear", align_corners=False)
            res4 = res4 + deep
        return res2, res3, res4


class _Layers(nn.Sequential):
    """A sequence that computes a convolution and the frozen norm after it in one step.

    The norm is a constant factor and offset of each channel. Applied to the weights, which are few,
    it spares a training two passes over the features, and their copies for the gradient.
    """

    def forward(self, features: Tensor) -> Tensor:
        layers = list(self)
        for layer, after in zip(layers, [*layers[1:], None], strict=True):
            if isinstance(layer, FrozenBatchNorm2d):
                continue  # its convolution has applied it
            if isinstance(after, FrozenBatchNorm2d):
                features = _normed(features, cast(nn.Conv2d, layer), after)
            else:
                features = layer(features)
        return features


def _normed(features: Tensor, conv: nn.Conv2d, norm: FrozenBatchNorm2d) -> Tensor:
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    offset = norm.bias - norm.running_mean * scale
    weight = conv.weight * scale.view(-1, 1, 1, 1)
    padding = cast(tuple[int, int], conv.padding)
    return F.conv2d(features, weight, offset, conv.stride, padding, conv.dilation, conv.groups)


def _conv_norm(
    inputs: int,
    outputs: int,
    norm_layer: type[nn.Module],
    kernel_size: int = 1,
    stride: int = 1,
    groups: int = 1,
) -> _Layers:
    conv = nn.Conv2d(
        inputs, outputs, kernel_size, stride, kernel_size // 2, groups=groups, bias=False
    )
    return _Layers(conv, norm_layer(outputs), nn.ReLU6())


class _InvertedResidual(nn.Module):
    """Expand, convolve each channel, project; the input is added where the shape stays."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        expansion: int,
        stride: int,
        norm_layer: type[nn.Module],
    ) -> None:
        super().__init__()
        inner = inputs * expansion
        self.adds_input = stride == 1 and inputs == outputs
        expand = [_conv_norm(inputs, inner, norm_layer)] if expansion != 1 else []
        self.conv = _Layers(
            *expand,
            _conv_norm(inner, inner, norm_layer, kernel_size=3, stride=stride, groups=inner),
            nn.Conv2d(inner, outputs, 1, bias=False),
            norm_layer(outputs),
        )

    def forward(self, features: Tensor) -> Tensor:
        change: Tensor = self.conv(features)
        return features + change if self.adds_input else change
