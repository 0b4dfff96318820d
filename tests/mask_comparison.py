"""Checks that masks differ by no more than float noise explains.

Another processor sums in another order, and a pixel whose logit is close to zero may change sides.
How many pixels do depends on how ragged the mask is, so no share of its area is a good limit: in a
mask of thirty pixels, one pixel is 3 %. A pixel is certain if the reference's logit is further from
zero than the noise reaches. A mask must have all pixels that are certainly inside and none that is
certainly outside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visolo_core.masks import Masks, resize_masks
from visolo_runtime.engines.buffers import Buffers

Logits = NDArray[np.float32]
LOGIT_NOISE = 1e-3
"""For networks of the lite kind, whose logits reach 40: they differ by up to 2.6e-4 between two
orders of summation, with AVX2 and with AVX-512; four times as much is allowed."""


@dataclass(frozen=True)
class MaskBounds:
    """The pixels that masks must contain, and those that they may contain."""

    certain: Masks
    """bool [N, H, W]: pixels that are inside whatever the noise."""
    possible: Masks
    """bool [N, H, W]: the certain pixels, and those that noise may move inside."""

    @classmethod
    def of_logits(cls, logits: Logits, noise: float = LOGIT_NOISE) -> MaskBounds:
        """The bounds of masks whose logits [N, H, W] are known up to the noise."""
        return cls(logits > noise, logits > -noise)

    def resized(self, size: tuple[int, int]) -> MaskBounds:
        """The bounds at another resolution; resizing keeps one mask within the other."""
        return MaskBounds(resize_masks(self.certain, size), resize_masks(self.possible, size))

    def check(self, masks: NDArray[Any]) -> None:
        """Assert that masks, bool or uint8 [N, H, W], lie within the bounds."""
        assert masks.shape == self.certain.shape
        inside = masks > 0
        missing = (self.certain & ~inside).sum(axis=(1, 2))
        extra = (inside & ~self.possible).sum(axis=(1, 2))
        assert not missing.any(), f"pixels missing that are certainly inside: {missing.tolist()}"
        assert not extra.any(), f"pixels that are certainly outside: {extra.tolist()}"


def mask_logits(mask_features: NDArray[Any], kernels: NDArray[Any]) -> Logits:
    """Logits of masks at the network's input size.

    Args:
        mask_features: float32 [D, H/4, W/4].
        kernels: float32 [D, N], of the cells that the masks belong to.

    Returns:
        float32 [N, H, W].
    """
    import torch

    from visolo_core.nn.branches import decode_masks

    if not kernels.shape[1]:  # PyTorch cannot resize an empty batch
        return np.zeros((0, *(4 * side for side in mask_features.shape[1:])), np.float32)
    features = torch.from_numpy(np.ascontiguousarray(mask_features))[None]
    chosen = torch.from_numpy(np.ascontiguousarray(kernels.T))[None]
    with torch.inference_mode():
        logits: Logits = decode_masks(features, chosen)[0].numpy()
    return logits


def bounds_in(
    buffers: Buffers, cell: NDArray[np.int64], row: int = 0, noise: float = LOGIT_NOISE
) -> MaskBounds:
    """Bounds of the masks of some cells of the newest frame of a row."""
    kernels = buffers.read("kernels", row)[0][:, cell]
    return MaskBounds.of_logits(mask_logits(buffers.read("mask_features", row)[0], kernels), noise)
