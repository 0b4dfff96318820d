"""The category, kernel, tracking and mask branches, which use the features of a frame.

Paper, section 3.2. The category and kernel branches stop half-way, where the memory is read; their
second halves are separate methods. Grid features have one position per cell.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visolo_core.config import MASK_STRIDE, ModelConfig
from visolo_core.nn.layers import ConvNorm, Residual, append_coordinates


def to_grid(features: Tensor, grid: tuple[int, int]) -> Tensor:
    """Features [B, c, h, w] resized bilinearly to the cells, [B, c, rows, columns]."""
    if features.shape[-2:] == grid:
        return features
    return F.interpolate(features, grid, mode="bilinear", align_corners=False)


class CategoryBranch(nn.Module):
    """What is in each cell. Official keys ``Category_branch_pre`` and ``Category_branch_post``."""

    def __init__(self, channels: int, config: ModelConfig) -> None:
        super().__init__()
        width, groups = config.width, config.groups
        self.grid = config.grid
        self.entry = ConvNorm(channels, width, groups, relu=False)
        self.before_memory = nn.Sequential(*[ConvNorm(width, width, groups) for _ in range(2)])
        self.project = ConvNorm(width, width, groups, kernel_size=1, relu=False)
        self.after_memory = nn.Sequential(*[ConvNorm(width, width, groups) for _ in range(3)])
        self.classifier = nn.Conv2d(width, config.classes, 3, padding=1)

    def forward(self, res4: Tensor) -> tuple[Tensor, Tensor]:
        """The half before the memory is read.

        Args:
            res4: [B, c4, H/16, W/16].

        Returns:
            frame features [B, D, rows, columns] before any ReLU, the input of the tracking branch;
            category features [B, D, rows, columns], which read the memory and are stored in it.
        """
        frame = self.entry(to_grid(res4, self.grid))
        return frame, self.project(self.before_memory(torch.relu(frame)))

    def classify(self, category: Tensor) -> Tensor:
        """Class logits [B, C, rows, columns] of category features after the memory is read."""
        logits: Tensor = self.classifier(self.after_memory(category))
        return logits


class KernelBranch(nn.Module):
    """The mask kernel of each cell. Official key ``Kernel_branch``."""

    def __init__(self, channels: int, config: ModelConfig) -> None:
        super().__init__()
        width, groups = config.width, config.groups
        self.grid = config.grid
        self.before_memory = nn.Sequential(
            ConvNorm(channels + 2, width, groups),
            ConvNorm(width, width, groups),
            ConvNorm(width, width, groups),
        )
        self.after_memory = nn.Sequential(*[ConvNorm(width, width, groups) for _ in range(2)])
        self.predict = ConvNorm(width, width, groups, kernel_size=1, relu=False)

    def forward(self, res4: Tensor) -> Tensor:
        """Kernel features [B, D, rows, columns] of res4 [B, c4, H/16, W/16], before the memory."""
        features: Tensor = self.before_memory(to_grid(append_coordinates(res4), self.grid))
        return features

    def kernels(self, features: Tensor) -> Tensor:
        """Kernels [B, D, rows, columns] of kernel features after the memory is read."""
        kernels: Tensor = self.predict(self.after_memory(features))
        return kernels


class TrackingBranch(nn.Module):
    """Queries and keys of the cells. Official key ``Tracking_branch`` (Q and R)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, groups = config.width, config.groups
        self.shared = nn.Sequential(*[ConvNorm(width, width, groups) for _ in range(2)])
        self.query = self._head(config)
        self.key = self._head(config)

    @staticmethod
    def _head(config: ModelConfig) -> nn.Sequential:
        return nn.Sequential(
            ConvNorm(config.width, config.width, config.groups, relu=False),
            ConvNorm(config.width, config.key_width, config.groups, kernel_size=1, relu=False),
        )

    def forward(self, frame: Tensor) -> tuple[Tensor, Tensor]:
        """Query and key, [B, D/2, S] each, of frame features [B, D, rows, columns]."""
        shared = self.shared(torch.relu(frame))
        return self.query(shared).flatten(2), self.key(shared).flatten(2)


class Refine(nn.Module):
    """Brings mask features to the next finer scale. Official keys ``RefR3``, ``RefR2``."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.skip = nn.Conv2d(channels, width, 3, padding=1)
        self.skip_residual = Residual(width)
        self.residual = Residual(width)

    def forward(self, backbone: Tensor, coarse: Tensor) -> Tensor:
        """[B, D, 2h, 2w] of backbone features [B, c, 2h, 2w] and the coarser [B, D, h, w]."""
        upsampled = F.interpolate(coarse, scale_factor=2.0, mode="bilinear", align_corners=False)
        refined: Tensor = self.residual(self.skip_residual(self.skip(backbone)) + upsampled)
        return refined


class MaskBranch(nn.Module):
    """The features that kernels turn into masks. Official key ``Mask_branch``."""

    def __init__(self, channels: tuple[int, ...], config: ModelConfig) -> None:
        super().__init__()
        inner, groups = config.mask_channels, config.groups
        self.entry = ConvNorm(channels[2] + 2, inner, groups, relu=False)
        self.residual4 = Residual(inner)
        self.refine3 = Refine(channels[1], inner)
        self.refine2 = Refine(channels[0], inner)
        self.smooth = ConvNorm(inner, inner, groups)
        self.predict = ConvNorm(inner, config.width, groups, kernel_size=1, relu=False)

    def forward(self, res2: Tensor, res3: Tensor, res4: Tensor) -> Tensor:
        """Mask features [B, D, H/4, W/4] of the three backbone stages."""
        features = self.residual4(self.entry(append_coordinates(res4)))
        features = self.refine2(res2, self.refine3(res3, features))
        masks: Tensor = self.predict(self.smooth(torch.relu(features)))
        return masks


def decode_masks(mask_features: Tensor, kernels: Tensor) -> Tensor:
    """Mask logits at the input's resolution.

    Args:
        mask_features: [B, D, H/4, W/4].
        kernels: [B, N, D], one per mask.

    Returns:
        [B, N, H, W]; a pixel belongs to the mask where the logit is positive.
    """
    batch, _, height, width = mask_features.shape
    logits = torch.bmm(kernels, mask_features.flatten(2)).view(batch, -1, height, width)
    return F.interpolate(
        logits, scale_factor=float(MASK_STRIDE), mode="bilinear", align_corners=False
    )
