"""Average precision of tracks, as the official YouTube-VIS evaluator computes it.

It is COCO's evaluation with videos for images and tracks for boxes: the overlap of two tracks is
the sum of their common pixels over the sum of all their pixels, over the whole video, and the size
of a track is the mean area of its masks. Everything but that overlap is pycocotools' own.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from visolo_core.categories import UNNAMED, LabelSet, plain_name
from visolo_core.errors import VisoloError
from visolo_core.masks import Rle
from visolo_core.results import Track
from visolo_runtime.runner import RunOptions, run
from visolo_runtime.session.loading import Model
from visolo_runtime.sinks.sink import Sink
from visolo_runtime.sources.clip import Clip
from visolo_runtime.sources.opening import open_source
from visolo_train.data.annotations import AnnotatedTrack, Annotations

MEASURES = (
    "AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl",
)  # fmt: skip
"""The twelve figures, in the evaluator's order."""

TRACK_SCORE = 0.3
"""Default score below which tracks are ignored in figures and pictures of the tracks that a user
would see. Average precision counts all tracks: a results file holds every guess of a network, and
around this score its guesses turn into tracks."""

_SMALL, _MEDIUM, _ALL = 128**2, 256**2, 1e5**2
_AREAS = [[0, _ALL], [0, _SMALL], [_SMALL, _MEDIUM], [_MEDIUM, _ALL]]


@dataclass(frozen=True)
class PrecisionRecall:
    """Curves of precision over recall; the average precisions are their mean heights."""

    category_ids: tuple[int, ...]
    precision: NDArray[np.float64]
    """float64 [10, 101, C]: at IoU .5 to .95, at recall 0 to 1, of each category; -1 where the
    data set has no object of it."""

    def curve(self, iou: float, category_id: int | None = None) -> NDArray[np.float64] | None:
        """Precision at recall 0, .01, ... 1.

        Args:
            iou: .5, .55, ... or .95.
            category_id: None averages over the categories that have an object.

        Returns:
            float64 [101], or None where the data set has no object.
        """
        at_iou = self.precision[round((iou - 0.5) / 0.05)]
        if category_id is not None:
            at_iou = at_iou[:, [self.category_ids.index(category_id)]]
        defined = at_iou[:, (at_iou > -1).all(axis=0)]
        return np.asarray(defined.mean(axis=1)) if defined.size else None

    def ap(self, iou: float, category_id: int) -> float:
        """Average precision of a category at one IoU; -1 where undefined."""
        curve = self.curve(iou, category_id)
        return -1.0 if curve is None else float(curve.mean())


@dataclass(frozen=True)
class Score:
    """The evaluator's figures, in 0 to 1; -1 where undefined."""

    figures: dict[str, float]
    """The twelve of ``MEASURES``."""
    per_category: dict[int, float]
    """AP by category id."""
    curves: PrecisionRecall = field(repr=False, compare=False)
    """What the figures are computed from."""

    def as_dict(self) -> dict[str, Any]:
        """Ready for json."""
        by_id = {str(category): ap for category, ap in self.per_category.items()}
        return {**self.figures, "per_category": by_id}


def score_tracks(annotations: Annotations, results: Sequence[AnnotatedTrack]) -> Score:
    """Score results against the annotations of their data set."""
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints as it goes
        evaluator = _TrackEvaluator(annotations, results)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    precision = evaluator.eval["precision"][:, :, :, 0, -1]  # IoU, recall, category
    category_ids = tuple(int(category) for category in evaluator.params.catIds)
    return Score(
        dict(zip(MEASURES, evaluator.stats.tolist(), strict=True)),
        {category: _mean(precision[:, :, at]) for at, category in enumerate(category_ids)},
        PrecisionRecall(category_ids, precision),
    )


def score_model(
    model: Model, annotations: Annotations, data: Path, images: Path | None = None
) -> Score:
    """Run a model over a data set and score its results.

    Args:
        model: already opened.
        annotations: of the data set.
        data: where they were read from.
        images: folder of the frames; None means the one beside ``data``.

    Raises:
        VisoloError: if the model's labels do not match the data set, or a video cannot be run to
            its end.
        KeyboardInterrupt: if Ctrl-C ended the run, whose first part would have been scored.
    """
    check_labels(model.labels, annotations.labels)
    collector = TrackCollector(model.labels)
    summary = run(model, open_source(str(data), images), [collector], RunOptions(record=True))
    if summary.interrupted:
        raise KeyboardInterrupt
    if summary.failed:
        raise VisoloError(f"'{data}': {summary.failed[0].name}: {summary.failed[0].reason}")
    return score_tracks(annotations, collector.tracks)


class TrackCollector(Sink):
    """Keeps the tracks of a run for scoring, but for videos that were not run to their ends."""

    def __init__(self, labels: LabelSet) -> None:
        self._labels = labels
        self.tracks: list[AnnotatedTrack] = []
        self.failed_videos: set[int] = set()
        """Ids of those that are left out."""

    def failed(self, clip: Clip, reason: str) -> None:
        self.failed_videos.add(clip.video_id)

    def end(self, clip: Clip, tracks: list[Track]) -> None:
        if clip.video_id in self.failed_videos:
            return
        for track in tracks:
            category = self._labels.ids[track.label]
            self.tracks.append(
                AnnotatedTrack(clip.video_id, category, track.segmentations, track.score)
            )


def check_labels(model: LabelSet, data: LabelSet) -> None:
    """Make sure that a model's categories are those of a data set.

    Raises:
        VisoloError: if the data set lacks an id of the model, or names it differently.
    """
    names = dict(zip(data.ids, data.names, strict=True))
    for number, name in zip(model.ids, model.names, strict=True):
        there = names.get(number)
        if there is None or (model.name != UNNAMED and plain_name(there) != plain_name(name)):
            hint = ""
            if set(map(plain_name, model.names)) <= set(map(plain_name, data.names)):
                hint = (
                    "; only the numbers differ, and visolo data import --labels gives categories "
                    "the numbers of another json"
                )
            raise VisoloError(
                f"the model's category {number} is '{name}' ({model.name}), in '{data.name}' it is "
                f"{repr(there) if there else 'none'}: the model does not fit the data set{hint}"
            )


def _mean(values: NDArray[np.float64]) -> float:
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else -1.0


class _TrackEvaluator(COCOeval):  # type: ignore[misc]
    """COCO's evaluator with the overlap of tracks instead of boxes."""

    def __init__(self, annotations: Annotations, results: Sequence[AnnotatedTrack]) -> None:
        index = (_as_coco(annotations, tracks) for tracks in (annotations.tracks, results))
        super().__init__(*index, iouType="bbox")
        self.params.areaRng = _AREAS

    def computeIoU(self, imgId: int, catId: int) -> Any:
        truth, results = self._gts[imgId, catId], self._dts[imgId, catId]
        if not truth and not results:
            return []
        order = np.argsort([-result["score"] for result in results], kind="mergesort")
        best = [results[at] for at in order[: self.params.maxDets[-1]]]
        return track_overlaps(
            [result["segmentations"] for result in best],
            [track["segmentations"] for track in truth],
        )


def _as_coco(annotations: Annotations, tracks: Sequence[AnnotatedTrack]) -> COCO:
    index = COCO()
    index.dataset = {
        "images": [{"id": video.video_id} for video in annotations.videos],
        "categories": [{"id": category} for category in annotations.labels.ids],
        "annotations": [
            {
                "id": number,
                "image_id": track.video_id,
                "category_id": track.category_id,
                "segmentations": track.segmentations,
                "area": _mean_area(track),
                "iscrowd": int(track.crowd),
                "score": track.score,
            }
            for number, track in enumerate(tracks, start=1)
        ],
    }
    index.createIndex()
    return index


def _mean_area(track: AnnotatedTrack) -> float:
    """Mean over the frames in which the track has a pixel."""
    areas = track.areas or [rle and float(coco_mask.area(rle)) for rle in track.segmentations]
    visible = [area for area in areas if area]
    return float(np.mean(visible)) if visible else 0.0


def track_overlaps(
    first: Sequence[Sequence[Rle | None]], second: Sequence[Sequence[Rle | None]]
) -> NDArray[np.float64]:
    """IoU of each pair of tracks: common pixels over all pixels, summed over the frames.

    Args:
        first: N tracks of a video, a mask or None for every frame.
        second: M tracks of the same video.

    Returns:
        float64 [N, M]; 0 for two tracks without a pixel.
    """
    common = np.zeros((len(first), len(second)))
    area_first, area_second = np.zeros((len(first), 1)), np.zeros((1, len(second)))
    frames = len(first[0]) if first else 0
    for frame in range(frames if second else 0):
        masks_first = [track[frame] for track in first]
        masks_second = [track[frame] for track in second]
        rows = [at for at, mask in enumerate(masks_first) if mask is not None]
        columns = [at for at, mask in enumerate(masks_second) if mask is not None]
        a = _areas([masks_first[at] for at in rows])
        b = _areas([masks_second[at] for at in columns])
        area_first[rows, 0] += a
        area_second[0, columns] += b
        if rows and columns:
            iou = coco_mask.iou(
                [masks_first[at] for at in rows],
                [masks_second[at] for at in columns],
                [0] * len(columns),
            )
            # The count of common pixels follows from the IoU and is a whole number again.
            pixels = np.rint(iou * (a[:, None] + b[None, :]) / (1 + iou))
            common[np.ix_(rows, columns)] += pixels
    union = area_first + area_second - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def _areas(masks: list[Rle | None]) -> NDArray[np.float64]:
    return np.asarray(coco_mask.area(masks) if masks else [], np.float64)
