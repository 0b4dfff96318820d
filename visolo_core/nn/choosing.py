"""Chooses the cells of a frame whose masks are worth decoding, inside the frame graph.

The paper's first step of decoding (section 3.4): a cell is a candidate if its best class score
times its grid weight reaches a threshold. ``visolo_core.decoding`` has the same in NumPy. Done in
the graph, the host needs neither the scores of all cells nor their keys, and a GPU needs no answer
from the host before it decodes masks.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class ChosenCells(NamedTuple):
    """The K best cells of each frame, best first; the first ``reached`` of them are candidates."""

    reached: Tensor
    """int32 [B], cells that reach the threshold; can be more than K"""
    cell: Tensor
    """int32 [B, K], index of the cell, row by row"""
    score: Tensor
    """[B, K], best class score times grid weight"""
    classes: Tensor
    """[B, K, C], class scores"""
    query: Tensor
    """[B, K, D/2]"""
    key: Tensor
    """[B, K, D/2]"""
    kernel: Tensor
    """[B, K, D]"""


def grid_weights(query: Tensor, recent_key: Tensor, recent_valid: Tensor) -> Tensor:
    """How well each cell matches earlier frames.

    Args:
        query: [B, D/2, S], queries of the frame.
        recent_key: [B, 2, D/2, S], keys of the previous frame and of the newest kept frame.
        recent_valid: bool [B, 2], which of them exist.

    Returns:
        [B, S]: the best match in each earlier frame, averaged; ones if there is no earlier frame.
    """
    # The logistic function is monotonic: the best logit gives the best match.
    match = (query.transpose(1, 2).unsqueeze(1) @ recent_key).amax(dim=3).sigmoid()
    exists = recent_valid.unsqueeze(2).float()
    earlier = exists.sum(dim=1)
    mean = (match * exists).sum(dim=1) / earlier.clamp(min=1)
    return torch.where(earlier > 0, mean, torch.ones_like(mean))


def best_cells(
    scores: Tensor,
    weight: Tensor,
    threshold: Tensor,
    places: int,
    query: Tensor,
    key: Tensor,
    kernels: Tensor,
) -> ChosenCells:
    """The best cells of each frame, with what is known about them.

    Args:
        scores: [B, C, S], class scores.
        weight: [B, S], grid weight.
        threshold: [B], in 0 to 1.
        places: K, at most S.
        query: [B, D/2, S].
        key: [B, D/2, S].
        kernels: [B, D, S].
    """
    weighted = scores.amax(dim=1) * weight
    count = (weighted >= threshold.unsqueeze(1)).sum(dim=1)
    score, cell = weighted.topk(places, dim=1)

    def of_cells(values: Tensor) -> Tensor:
        index = cell.unsqueeze(1).expand(-1, values.shape[1], -1)
        return values.gather(2, index).transpose(1, 2).contiguous()

    return ChosenCells(
        count.to(torch.int32),
        cell.to(torch.int32),
        score,
        *(of_cells(values) for values in (scores, query, key, kernels)),
    )
