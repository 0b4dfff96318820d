"""Measures how far two results differ: tensors, and the tracks of a video as sets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visolo_core.masks import Masks, decode_rle
from visolo_core.results import Track

EDGE_SHARE = 0.02
"""Share of the pixels on a mask's edge that float noise may move to the other side"""
EDGE_PIXELS = 4
"""and the largest number of them. One pixel is a thousandth of a thousand-pixel mask, so the
overlap says nothing about small masks; about large ones it does."""


@dataclass
class TensorError:
    """Largest difference of a tensor over all frames."""

    absolute: float = 0.0
    """largest absolute difference"""
    relative: float = 0.0
    """the same over the largest magnitude of the reference"""

    def as_dict(self) -> dict[str, float | None]:
        """Both figures, ready for JSON; infinity, which JSON lacks, becomes None."""
        return {
            name: value if np.isfinite(value) else None
            for name, value in (("absolute", self.absolute), ("relative", self.relative))
        }

    def add(self, reference: NDArray[np.generic], candidate: NDArray[np.generic]) -> None:
        """Include another frame. A NaN on either side counts as an infinite difference."""
        if not reference.size:
            return
        expected = reference.astype(np.float64)
        largest = float(np.abs(expected - candidate.astype(np.float64)).max())
        absolute = largest if np.isfinite(largest) else float("inf")
        scale = float(np.abs(expected).max())
        self.absolute = max(self.absolute, absolute)
        self.relative = max(self.relative, absolute / scale if scale else absolute)


@dataclass(frozen=True)
class TrackComparison:
    """Two results for the same video, compared as sets."""

    reference_tracks: int
    candidate_tracks: int
    unmatched_reference: tuple[int, ...]
    """ids of tracks without a partner of the same class in the same frames"""
    unmatched_candidate: tuple[int, ...]
    max_score_difference: float | None
    """between partners; None if there are none"""
    min_mask_iou: float | None
    """over all masks of partners; None if there are none"""
    min_mask_agreement: float | None
    """the same with :func:`mask_agreement`, which is what a tolerance applies to"""

    @property
    def same_tracks(self) -> bool:
        """Whether every track has a partner."""
        return not self.unmatched_reference and not self.unmatched_candidate


def compare_tracks(reference: Sequence[Track], candidate: Sequence[Track]) -> TrackComparison:
    """Pair the tracks of two results and measure how far partners differ.

    Partners have the same class and are visible in the same frames; where several tracks qualify,
    those whose masks overlap most are paired first. The order and ids of tracks do not matter.
    """
    groups: dict[tuple[object, ...], list[Track]] = defaultdict(list)
    for track in candidate:
        groups[_signature(track)].append(track)
    pairs: list[tuple[Track, Track, float]] = []
    unmatched = []
    by_signature: dict[tuple[object, ...], list[Track]] = defaultdict(list)
    for track in reference:
        by_signature[_signature(track)].append(track)
    for signature, tracks in by_signature.items():
        rivals = groups[signature]
        options = sorted(
            (
                (_lowest(mask_iou, a, b), i, j)
                for i, a in enumerate(tracks)
                for j, b in enumerate(rivals)
            ),
            reverse=True,
        )
        paired_tracks, paired_rivals = set(), set()
        for iou, i, j in options:
            if i not in paired_tracks and j not in paired_rivals:
                paired_tracks.add(i)
                paired_rivals.add(j)
                pairs.append((tracks[i], rivals[j], iou))
        unmatched += [track.track_id for i, track in enumerate(tracks) if i not in paired_tracks]
    partners = {id(pair[1]) for pair in pairs}
    return TrackComparison(
        len(reference),
        len(candidate),
        tuple(unmatched),
        tuple(track.track_id for track in candidate if id(track) not in partners),
        max((abs(a.score - b.score) for a, b, _ in pairs), default=None),
        min((iou for _, _, iou in pairs), default=None),
        min((_lowest(mask_agreement, a, b) for a, b, _ in pairs), default=None),
    )


def _signature(track: Track) -> tuple[object, ...]:
    return track.label, tuple(mask is not None for mask in track.segmentations)


def _lowest(measure: Callable[[Masks, Masks], float], reference: Track, candidate: Track) -> float:
    """Lowest figure over the pairs of masks of two tracks that are visible in the same frames."""
    figures = [
        measure(decode_rle(a), decode_rle(b))
        for a, b in zip(reference.segmentations, candidate.segmentations, strict=True)
        if a is not None and b is not None
    ]
    return min(figures, default=1.0)


def mask_iou(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Intersection over union of two masks [H, W]; 1 if both are empty."""
    union = int((first | second).sum())
    return int((first & second).sum()) / union if union else 1.0


def mask_agreement(reference: NDArray[np.bool_], candidate: NDArray[np.bool_]) -> float:
    """Intersection over union of two masks [H, W]; 1 if they differ only on the reference's edge,
    and on no more pixels of it than float noise explains."""
    differs = reference != candidate
    edge = edge_of(reference)
    allowed = min(max(1, int(EDGE_SHARE * edge.sum())), EDGE_PIXELS)
    if differs.sum() <= allowed and not (differs & ~edge).any():
        return 1.0
    return mask_iou(reference, candidate)


def edge_of(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels of a mask [H, W], inside or outside, with one of the other side among their eight
    neighbours."""
    inside, outside = (_with_neighbours(side) for side in (mask, ~mask))
    return inside & outside


def _with_neighbours(pixels: NDArray[np.bool_]) -> NDArray[np.bool_]:
    padded = np.pad(pixels, 1)
    rows = padded[:-2] | padded[1:-1] | padded[2:]
    dilated: NDArray[np.bool_] = rows[:, :-2] | rows[:, 1:-1] | rows[:, 2:]
    return dilated
