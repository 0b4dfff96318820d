"""The three losses of the paper (section 3.5), each over whole tensors at once."""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from visolo_core.nn import ClipOutput
from visolo_core.nn.branches import decode_masks

MASK_WEIGHT = 3.0
_ALPHA, _GAMMA = 0.25, 2.0
_EPSILON = 1e-7


class Losses(NamedTuple):
    """Scalars, weighted as they are added."""

    category: Tensor
    mask: Tensor
    tracking: Tensor

    @property
    def total(self) -> Tensor:
        """What is minimised."""
        return self.category + self.mask + self.tracking


class ClipTargets(NamedTuple):
    """What the network shall say of B clips of F frames."""

    owner: Tensor
    """int64 [B, F, S], the object that a cell belongs to, or -1"""
    classes: tuple[Tensor, ...]
    """B of int64 [L], the class of each object"""
    masks: tuple[Tensor, ...]
    """B of bool [F, L, H, W]"""


def clip_losses(output: ClipOutput, targets: ClipTargets) -> Losses:
    """Losses of a batch of clips."""
    return Losses(
        category_loss(output.class_logits, targets),
        MASK_WEIGHT * mask_loss(output.mask_features, output.kernels, targets),
        tracking_loss(output.match_logits, targets.owner),
    )


def focal(logits: Tensor, truth: Tensor) -> Tensor:
    """Focal loss of each logit; ``truth`` holds zeros and ones, of the same shape."""
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    probability = logits.sigmoid()
    missed = probability + truth - 2 * probability * truth  # 1 - p where true, p where not
    weight = _ALPHA * truth + (1 - _ALPHA) * (1 - truth)
    return weight * missed**_GAMMA * entropy


def category_loss(class_logits: Tensor, targets: ClipTargets) -> Tensor:
    """Focal loss of all cells and classes [B, F, C, S] for each positive cell, frame by frame."""
    truth = torch.zeros_like(class_logits)
    positive = targets.owner >= 0
    for clip, classes in enumerate(targets.classes):
        frame, cell = positive[clip].nonzero(as_tuple=True)
        truth[clip, frame, classes[targets.owner[clip, frame, cell]], cell] = 1
    of_frame = focal(class_logits, truth).sum(dim=(2, 3))
    return (of_frame / positive.sum(dim=2).clamp(min=1)).mean()


def mask_loss(mask_features: Tensor, kernels: Tensor, targets: ClipTargets) -> Tensor:
    """Dice loss of the masks of the positive cells, the mean of the frames' means.

    Args:
        mask_features: [B, F, D, H/4, W/4].
        kernels: [B, F, D, S].
        targets: masks at the input's resolution.
    """
    losses = []
    for clip, masks in enumerate(targets.masks):
        for frame in range(masks.shape[0]):
            owner = targets.owner[clip, frame]
            cell = (owner >= 0).nonzero().squeeze(1)
            if not cell.numel():
                continue
            chosen = kernels[clip, frame][:, cell].T.unsqueeze(0)
            logits = decode_masks(mask_features[clip, frame].unsqueeze(0), chosen)[0]
            truth = masks[frame, owner[cell]].to(logits.dtype)
            losses.append(dice(logits.sigmoid(), truth).mean())
    return torch.stack(losses).mean() if losses else kernels.sum() * 0


def dice(probability: Tensor, truth: Tensor) -> Tensor:
    """Dice loss [N] of masks [N, H, W], with squares in the denominator."""
    overlap = (probability * truth).sum(dim=(1, 2))
    size = (probability**2).sum(dim=(1, 2)) + (truth**2).sum(dim=(1, 2))
    return 1 - 2 * overlap / (size + _EPSILON)


def tracking_loss(match_logits: Tensor, owner: Tensor) -> Tensor:
    """Focal loss of the match matrices [B, P, S, S] of all pairs of frames.

    A row counts if its cell has a partner in the later frame; its loss is summed. Rows are averaged
    within a pair, then the pairs that have any.
    """
    pairs = list(combinations(range(owner.shape[1]), 2))
    earlier = torch.stack([owner[:, first] for first, _ in pairs], dim=1)
    later = torch.stack([owner[:, last] for _, last in pairs], dim=1)
    same = (earlier[..., :, None] == later[..., None, :]) & (earlier[..., :, None] >= 0)
    counts = same.any(dim=-1)
    rows = counts.sum(dim=-1)
    of_pair = (focal(match_logits, same.to(match_logits.dtype)).sum(dim=-1) * counts).sum(dim=-1)
    return (of_pair / rows.clamp(min=1)).sum() / (rows > 0).sum().clamp(min=1)
