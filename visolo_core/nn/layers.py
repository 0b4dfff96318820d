"""The three building blocks that the branches share."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ConvNorm(nn.Sequential):
    """Convolution with bias, then GroupNorm, then an optional ReLU. Keeps the image size.

    Official key: ``X.weight, X.bias`` is ``conv`` here and ``X.norm.*`` is ``norm``.
    """

    conv: nn.Conv2d
    norm: nn.GroupNorm

    def __init__(
        self, inputs: int, outputs: int, groups: int, kernel_size: int = 3, relu: bool = True
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel_size, padding=kernel_size // 2)
        self.norm = nn.GroupNorm(groups, outputs)
        if relu:
            self.relu = nn.ReLU()


class Residual(nn.Module):
    """x + conv(relu(conv(relu(x)))) without norms; input and output float32 [B, D, h, w]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        change: Tensor = self.conv2(torch.relu(self.conv1(torch.relu(features))))
        return features + change


def append_coordinates(features: Tensor) -> Tensor:
    """Append the coordinates of every position as two channels.

    Args:
        features: [B, c, h, w].

    Returns:
        [B, c + 2, h, w]; the last two channels are y and x, each from -1 to 1.
    """
    batch, _, height, width = features.shape
    y = torch.linspace(-1, 1, height, device=features.device).view(1, 1, height, 1)
    x = torch.linspace(-1, 1, width, device=features.device).view(1, 1, 1, width)
    coordinates = [side.expand(batch, 1, height, width).to(features.dtype) for side in (y, x)]
    return torch.cat([features, *coordinates], dim=1)
