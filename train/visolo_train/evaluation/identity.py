"""How well tracks keep their identity: IDF1 and HOTA, with TrackEval's own metric classes.

Average precision rewards one correct track among many guesses. These measures judge what a user of
a tracker sees: one answer per object and frame, under one number for as long as the object is
visible. So only tracks above a score count (``scoring.TRACK_SCORE``).

A track is present in the frames in which its mask has a pixel, and the similarity of two masks is
their IoU. Objects and tracks are matched only within their category, as in average precision: a
correct mask of a wrong category is a miss and a false alarm. Counts are then summed over all videos
and categories (TrackEval's detection average), so that an object counts by its frames and a
category by its objects.

Crowds are not objects. What lies in one is not a false alarm: a mask that overlaps no object of its
category by half and has half of itself in a crowd of that category is left out.

Needs the package ``trackeval``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from trackeval import metrics

from visolo_core.masks import Rle
from visolo_train.data.annotations import AnnotatedTrack, Annotations
from visolo_train.evaluation.scoring import TRACK_SCORE

_SAME_OBJECT = 0.5
"""IoU from which two masks show the same object: IDF1's, and the official one of MOTS."""


Place = tuple[int, int]
"""A video and a category."""


@dataclass(frozen=True)
class Identity:
    """The measures, in 0 to 1; all are -1 where a data set has no object, as in ``Score``."""

    hota: float
    """Geometric mean of the next two, averaged over IoU thresholds .05 to .95."""
    det_a: float
    """Detection: hits over hits, misses and false alarms."""
    ass_a: float
    """Association: how far the track and the object of a hit agree in all their frames."""
    idf1: float
    """Harmonic mean of the next two, each object assigned the one track that fits best."""
    idp: float
    """Share of the tracks' masks that have their object's identity, at an IoU of one half."""
    idr: float
    """Share of the objects' masks that have their track's identity."""
    score_threshold: float
    """Tracks of a lower score were left out."""

    def figures(self) -> dict[str, float]:
        """The measures by their usual names."""
        return {
            "HOTA": self.hota,
            "DetA": self.det_a,
            "AssA": self.ass_a,
            "IDF1": self.idf1,
            "IDP": self.idp,
            "IDR": self.idr,
        }

    def as_dict(self) -> dict[str, float]:
        """Ready for json."""
        return self.figures() | {"score_threshold": self.score_threshold}


def identity_measures(
    annotations: Annotations,
    tracks: Sequence[AnnotatedTrack],
    score_threshold: float = TRACK_SCORE,
) -> Identity:
    """Measure how well tracks keep their identity, against the annotations of their data set.

    Args:
        annotations: the data set.
        tracks: results for it.
        score_threshold: tracks below this score, in 0 to 1, do not count.
    """
    kept = [track for track in tracks if track.score >= score_threshold]
    # Summing over videos and then over categories is summing over the pairs of both.
    scenes = dict(_scenes(annotations.tracks, kept))
    if not any(scene["num_gt_dets"] for scene in scenes.values()):
        return Identity(-1, -1, -1, -1, -1, -1, score_threshold)
    measures = _evaluate(metrics.HOTA(), scenes)
    measures |= _evaluate(metrics.Identity({"PRINT_CONFIG": False}), scenes)
    # HOTA's are arrays over IoU thresholds.
    names = ("HOTA", "DetA", "AssA", "IDF1", "IDP", "IDR")
    hota, det_a, ass_a, idf1, idp, idr = (float(np.mean(measures[name])) for name in names)
    return Identity(hota, det_a, ass_a, idf1, idp, idr, score_threshold)


def _evaluate(metric: Any, scenes: dict[Place, dict[str, Any]]) -> dict[str, Any]:
    each = {place: metric.eval_sequence(scene) for place, scene in scenes.items()}
    return dict(metric.combine_sequences(each))


def _scenes(
    truth: Sequence[AnnotatedTrack], tracks: Sequence[AnnotatedTrack]
) -> Iterator[tuple[Place, dict[str, Any]]]:
    """TrackEval's input for every video and category that has an object or a track."""
    objects: dict[Place, list[AnnotatedTrack]] = defaultdict(list)
    crowds: dict[Place, list[AnnotatedTrack]] = defaultdict(list)
    guesses: dict[Place, list[AnnotatedTrack]] = defaultdict(list)
    for track in truth:
        (crowds if track.crowd else objects)[track.video_id, track.category_id].append(track)
    for track in tracks:
        guesses[track.video_id, track.category_id].append(track)
    for place in sorted(objects.keys() | guesses.keys()):
        yield place, _scene(objects[place], crowds[place], guesses[place])


def _scene(
    objects: list[AnnotatedTrack], crowds: list[AnnotatedTrack], guesses: list[AnnotatedTrack]
) -> dict[str, Any]:
    """TrackEval's form of a video: for each frame, what is present and how similar the masks
    are."""
    frames = len((objects or guesses)[0].segmentations)
    object_ids, guess_ids, similarity = [], [], []
    for frame in range(frames):
        true_ids, true_masks = _present(objects, frame)
        ids, masks = _present(guesses, frame)
        overlap = _iou(true_masks, masks)
        counted = ~_only_in_crowd(masks, _present(crowds, frame)[1], overlap)
        object_ids.append(true_ids)
        guess_ids.append(ids[counted])
        similarity.append(overlap[:, counted])
    return {
        "gt_ids": object_ids,
        "tracker_ids": guess_ids,
        "similarity_scores": similarity,
        "num_gt_ids": len(objects),
        "num_tracker_ids": len(guesses),
        "num_gt_dets": sum(map(len, object_ids)),
        "num_tracker_dets": sum(map(len, guess_ids)),
    }


def _present(tracks: list[AnnotatedTrack], frame: int) -> tuple[NDArray[np.intp], list[Rle]]:
    """Positions of the tracks that are present in a frame, and their masks."""
    present = [
        (at, mask)
        for at, mask in enumerate(track.segmentations[frame] for track in tracks)
        if mask is not None and coco_mask.area(mask) > 0
    ]
    return np.array([at for at, _ in present], np.intp), [mask for _, mask in present]


def _iou(first: list[Rle], second: list[Rle], of_first: bool = False) -> NDArray[np.float64]:
    """float64 [N, M]: common pixels over the pixels of both, or over those of the first alone."""
    if not first or not second:
        return np.zeros((len(first), len(second)))
    return np.asarray(coco_mask.iou(first, second, [int(of_first)] * len(second)), np.float64)


def _only_in_crowd(
    masks: list[Rle], crowds: list[Rle], overlap: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """bool [M]: which masks lie in a crowd; ``overlap`` [N, M] is that of objects and masks."""
    in_crowd = _iou(masks, crowds, of_first=True).max(axis=1, initial=0) >= _SAME_OBJECT
    is_object = overlap.max(axis=0, initial=0) >= _SAME_OBJECT
    return np.asarray(in_crowd & ~is_object)
