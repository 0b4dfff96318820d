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
        """The value that is minimised."""
        return self.category + self.mask + self.tracking


class ClipTargets(NamedTuple):
    """The network's targets for B clips of F frames."""

    owner: Tensor
    """int64 [B, F, S], the object that a cell belongs to, or -1"""
    classes: tuple[Tensor, ...]
    """B of int64 [L], the class of each object"""
    masks: tuple[Tensor, ...]
    """B of bool [F, L, H, W]"""
    unsure: tuple[Tensor, ...] = ()
    """B of int64 [U], classes of which a clip may show more objects than the L: cells without an
    object learn nothing about them. An empty tuple means none in any clip."""
    departed: bool = False
    """Whether cells of an object learn that they match no cell of a later frame without it. In the
    official code they learn nothing from such a frame."""


def loss_counts(targets: ClipTargets) -> Tensor:
    """The divisors of the three sums: frames, frames with an object, pairs of frames of which a
    match is learnt.

    They are additive over the parts of a batch, so a batch that is split among processes or turns
    has the losses and gradients of the whole.

    Args:
        targets: of the clips.

    Returns:
        float32 [3].
    """
    owner = targets.owner
    positive = owner >= 0
    pairs = _matches(targets)[1].any(dim=2)
    counts = [positive[..., 0].numel(), positive.any(dim=2).sum(), pairs.sum()]
    return torch.stack([torch.as_tensor(each, device=owner.device) for each in counts]).float()


def clip_losses(output: ClipOutput, targets: ClipTargets, counts: Tensor | None = None) -> Losses:
    """Losses of a batch of clips, or of a part of one.

    Args:
        output: of the network.
        targets: for the same clips.
        counts: :func:`loss_counts` of the whole batch; None uses these clips.
    """
    frames, with_objects, pairs = (
        (loss_counts(targets) if counts is None else counts).clamp(min=1).unbind()
    )
    return Losses(
        category_sum(output.class_logits, targets) / frames,
        MASK_WEIGHT * mask_sum(output.mask_features, output.kernels, targets) / with_objects,
        tracking_sum(output.match_logits, targets) / pairs,
    )


def focal(logits: Tensor, truth: Tensor) -> Tensor:
    """Focal loss of each logit; ``truth`` holds zeros and ones, of the same shape."""
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    probability = logits.sigmoid()
    missed = probability + truth - 2 * probability * truth  # 1 - p where true, p where not
    weight = _ALPHA * truth + (1 - _ALPHA) * (1 - truth)
    return weight * missed**_GAMMA * entropy


def category_sum(class_logits: Tensor, targets: ClipTargets) -> Tensor:
    """Sum over the frames of: focal loss of all cells and classes [B, F, C, S] for each positive
    cell."""
    truth = torch.zeros_like(class_logits)
    positive = targets.owner >= 0
    for clip, classes in enumerate(targets.classes):
        frame, cell = positive[clip].nonzero(as_tuple=True)
        truth[clip, frame, classes[targets.owner[clip, frame, cell]], cell] = 1
    counts = torch.ones_like(class_logits)
    for clip, unsure in enumerate(targets.unsure):
        counts[clip][:, unsure] = positive[clip].unsqueeze(1).to(counts.dtype)
    of_frame = (focal(class_logits, truth) * counts).sum(dim=(2, 3))
    return (of_frame / positive.sum(dim=2).clamp(min=1)).sum()


def mask_sum(mask_features: Tensor, kernels: Tensor, targets: ClipTargets) -> Tensor:
    """Sum over the frames of: mean Dice loss of the masks of the positive cells.

    Args:
        mask_features: [B, F, D, H/4, W/4].
        kernels: [B, F, D, S].
        targets: masks at the input's resolution.
    """
    losses = []
    # Taken apart once: a gradient through an index is as large as the whole tensor, for each frame.
    features_of = mask_features.unbind()
    for clip, masks in enumerate(targets.masks):
        of_frame = zip(features_of[clip].unbind(), kernels[clip].unbind(), strict=True)
        for frame, (features, kernel) in enumerate(of_frame):
            owner = targets.owner[clip, frame]
            cell = (owner >= 0).nonzero().squeeze(1)
            if not cell.numel():
                continue
            chosen = kernel[:, cell].T.unsqueeze(0)
            logits = decode_masks(features.unsqueeze(0), chosen)[0]
            losses.append(dice(logits.sigmoid(), masks[frame], owner[cell]).mean())
    if not losses:  # zero, but with gradients for the features and the kernels
        return (mask_features.sum() + kernels.sum()) * 0
    return torch.stack(losses).sum()


def dice(probability: Tensor, truth: Tensor, owner: Tensor) -> Tensor:
    """Dice loss [N] of masks, with squares in the denominator.

    Args:
        probability: float32 [N, H, W].
        truth: bool [L, H, W].
        owner: int64 [N], which of the L is the truth of each of the N.
    """
    ours, theirs = probability.flatten(1), truth.flatten(1).to(probability.dtype)
    # Products of matrices: no copy of a mask is made for any of its cells.
    overlap = (ours @ theirs.T).gather(1, owner[:, None]).squeeze(1)
    squares = torch.bmm(ours.unsqueeze(1), ours.unsqueeze(2)).flatten()
    size = squares + theirs.sum(dim=1)[owner]
    return 1 - 2 * overlap / (size + _EPSILON)


def tracking_sum(match_logits: Tensor, targets: ClipTargets) -> Tensor:
    """Sum over the pairs of frames of the focal loss of their match matrices [B, P, S, S].

    A row counts if its cell has a partner in the later frame, or if it learns that it has none; its
    loss is summed, and the rows of a pair are averaged.
    """
    same, counts = _matches(targets)
    weights = 1 / counts.sum(dim=-1, keepdim=True).clamp(min=1).expand_as(counts)[counts]
    # Few rows count: of the others, not even the loss is computed.
    of_row = focal(match_logits[counts], same[counts].to(match_logits.dtype)).sum(dim=-1)
    return (of_row * weights).sum()


def _matches(targets: ClipTargets) -> tuple[Tensor, Tensor]:
    """bool [B, P, S, S]: whether a cell of the earlier frame of a pair and one of the later show
    the same object; and bool [B, P, S]: of which cells of the earlier frame that is learnt."""
    owner = targets.owner
    pairs = list(combinations(range(owner.shape[1]), 2))
    earlier = torch.stack([owner[:, first] for first, _ in pairs], dim=1)
    later = torch.stack([owner[:, last] for _, last in pairs], dim=1)
    shown = earlier >= 0
    same = (earlier[..., :, None] == later[..., None, :]) & shown[..., :, None]
    return same, shown if targets.departed else same.any(dim=-1)
