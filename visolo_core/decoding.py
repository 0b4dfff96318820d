"""From the cells of a frame to its instances, in NumPy.

The steps and thresholds are the paper's (section 3.4; SOLOv2's matrix NMS): choose cells by class
score times grid weight, multiply each score by the certainty of its mask, apply matrix NMS within
a class, then drop masks that a better mask covers. The masks stay where they were decoded; only
their areas, sums of probabilities and pairwise intersections are needed here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from visolo_core.config import InferenceConfig

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
_UPPER = np.triu(np.ones((128, 128), bool), k=1)


@dataclass(frozen=True)
class Candidates:
    """The cells of one frame for which masks are decoded, best first."""

    cell: Ints
    """[N], index of the cell, row by row."""
    score: Floats
    """[N], best class score times grid weight."""
    classes: Floats
    """[N, C], raw class scores."""
    query: Floats
    """[N, D/2]."""
    key: Floats
    """[N, D/2]."""

    def __len__(self) -> int:
        return len(self.cell)

    @cached_property
    def label(self) -> Ints:
        """[N], class index."""
        return np.asarray(self.classes.argmax(axis=1), np.int64)


class Selection(NamedTuple):
    """The candidates that became instances, best first."""

    chosen: Ints
    """[M], positions among the candidates."""
    score: Floats
    """[M], score after mask certainty and matrix NMS."""


def sigmoid(logits: Floats) -> Floats:
    """Logistic function without overflow; float32 in, float32 out."""
    half = np.tanh(0.5 * logits)
    return np.asarray(0.5 + 0.5 * half, np.float32)


def match_values(query: Floats, key: Floats) -> Floats:
    """How well cells of one frame match cells of another, in 0 to 1.

    Args:
        query: float32 [D/2, N], queries of the earlier frame's cells.
        key: float32 [D/2, M], keys of the later frame's cells.

    Returns:
        float32 [N, M], sigmoid of the inner products.
    """
    return sigmoid(np.asarray(query.T @ key))


def grid_weight(query: Floats, keys: list[Floats]) -> Floats:
    """How well each cell of a frame matches earlier frames.

    Args:
        query: float32 [D/2, S], queries of the frame.
        keys: float32 [D/2, S] each, keys of the previous frame and of the newest kept frame;
            empty for the first frame of a video.

    Returns:
        float32 [S]: the best match in each earlier frame, averaged; ones if there are no keys.
    """
    if not keys:
        return np.ones(query.shape[1], np.float32)
    # The logistic function is monotonic: the best logit gives the best match.
    best = [sigmoid((query.T @ key).max(axis=1)) for key in keys]
    return np.asarray(np.mean(best, axis=0), np.float32)


def choose_cells(
    scores: Floats, weight: Floats, threshold: float, query: Floats, key: Floats
) -> Candidates:
    """The cells whose best class score times grid weight reaches the threshold.

    The frame graph does the same for the best of them.

    Args:
        scores: float32 [C, S], class scores of the frame.
        weight: float32 [S], grid weight of the frame.
        threshold: in 0 to 1.
        query: float32 [D/2, S], queries of the frame.
        key: float32 [D/2, S], keys of the frame.
    """
    weighted = scores.max(axis=0) * weight
    cell = np.flatnonzero(weighted >= np.float32(threshold))
    cell = cell[np.argsort(-weighted[cell], kind="stable")]
    return Candidates(cell, weighted[cell], scores[:, cell].T, query[:, cell].T, key[:, cell].T)


def matrix_nms(
    score: Floats,
    label: Ints,
    area: Floats,
    intersection: Floats,
    sigma: float = 2.0,
    kernel: Literal["gaussian", "linear"] = "gaussian",
) -> Floats:
    """Scores decayed by better masks of the same class (SOLOv2, section 3.3).

    Args:
        score: float32 [N], in descending order.
        label: int64 [N].
        area: float32 [N], pixels of each mask; none may be empty.
        intersection: float32 [N, N], common pixels of each pair.
        sigma: of the Gaussian.
        kernel: ``gaussian`` (the paper) or ``linear``.

    Returns:
        float32 [N], the decayed scores in the same order.
    """
    rival = (label[:, None] == label) & _upper(len(label))
    if not rival.any():
        return score
    union = area[:, None] + area - intersection
    iou = np.where(rival, intersection / union, np.float32(0))
    # A rival that overlaps a better mask itself decays others less (SOLOv2's compensation).
    compensation = iou.max(axis=0, initial=0)[:, None]
    if kernel == "gaussian":
        decay = np.exp(-sigma * (iou**2 - compensation**2))
    else:
        # The floor avoids 0/0 for a duplicate of a duplicate, whose decay must be 0.
        decay = np.where(rival, (1 - iou) / np.maximum(1 - compensation, 1e-6), 1)
    return np.asarray(score * decay.min(axis=0, initial=1), np.float32)


def drop_covered(area: Floats, intersection: Floats, threshold: float) -> NDArray[np.bool_]:
    """Which masks survive when masks that better ones cover are dropped.

    Args:
        area: float32 [N], pixels of each mask, best mask first.
        intersection: float32 [N, N], common pixels of each pair.
        threshold: a mask is dropped if a surviving better mask covers a larger share of it.

    Returns:
        bool [N].
    """
    covered = (intersection > threshold * area) & _upper(len(area))
    survives = np.ones(len(area), bool)
    for index in np.flatnonzero(covered.any(axis=0)):  # few masks are covered
        survives[index] = not np.any(covered[:index, index] & survives[:index])
    return survives


def select_instances(
    candidates: Candidates,
    area: Floats,
    probability_sum: Floats,
    intersection: Floats,
    config: InferenceConfig,
    kept: NDArray[np.bool_] | None = None,
) -> Selection:
    """The candidates that are instances of the frame.

    Args:
        candidates: N cells.
        area: float32 [N], pixels of each binary mask.
        probability_sum: float32 [N], sum of the mask probabilities inside the binary mask.
        intersection: float32 [N, N], common pixels of each pair of binary masks.
        config: thresholds and limits.
        kept: bool [N], the candidates that may be instances; None means all. The others neither
            count towards a limit nor cover a mask.
    """
    # Methods of arrays, not functions of NumPy, and no more of them than it takes: between two runs
    # of an engine their code is cold, and each call costs more than the numbers that it handles.
    present = area > 0  # an empty mask would make every score NaN
    (index,) = (present if kept is None else present & kept).nonzero()
    score = candidates.score[index] * (probability_sum[index] / area[index])
    order = (-score).argsort(kind="stable")[: config.pre_nms_limit]
    index, score = index[order], score[order]

    label, area = candidates.label[index], area[index]
    pairs = intersection[index[:, None], index]
    score = matrix_nms(score, label, area, pairs, config.nms_sigma)
    (keep,) = (score >= config.update_threshold).nonzero()
    order = keep[(-score[keep]).argsort(kind="stable")][: config.max_instances]
    pairs = pairs[order[:, None], order]

    order = order[drop_covered(area[order], pairs, config.overlap_threshold)]
    return Selection(index[order], score[order])


def _upper(count: int) -> NDArray[np.bool_]:
    """bool [N, N], true above the diagonal."""
    if count <= len(_UPPER):
        return _UPPER[:count, :count]
    return np.triu(np.ones((count, count), bool), k=1)
