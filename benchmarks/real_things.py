"""Scores a model of the label set ``everyday`` on real videos and on photos.

    python benchmarks/real_things.py MODEL --videos INSTANCES.json [--pictures FOLDER]
    python benchmarks/real_things.py MODEL --stills INSTANCES.json [--share 0.05]

With ``--videos``, for each annotated track the overlap with the best track of the right class, over
the whole video; the mean of these overlaps, the share of tracks over .5, AP50 on the videos that
are annotated in full, and the tracks that match nothing. With ``--stills``, mask AP50 of single
frames, by class, of all photos or of the share that ``held_out`` of a recipe leaves out.
Other label sets are mapped: a sedan is a car, a cow is an animal; a train is left out.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask

from visolo_core.categories import EVERYDAY
from visolo_runtime.runner import RunOptions, run
from visolo_runtime.session.loading import Model, load
from visolo_runtime.sources.opening import open_source
from visolo_train.data.annotations import AnnotatedTrack, Annotations, read_annotations
from visolo_train.data.category_maps import as_everyday
from visolo_train.data.split import split_annotations
from visolo_train.evaluation.scoring import (
    TRACK_SCORE,
    TrackCollector,
    check_labels,
    score_tracks,
    track_overlaps,
)

FOUND = 0.5
"""Overlap from which a track counts as found."""
SIZES = (0.0, 0.02, 0.1, 1.0)
"""Limits of small, medium and large objects, as shares of the frame."""
STRAY = 0.1
"""Overlap below which a track matches nothing, of whatever class."""


@dataclass(frozen=True)
class TrackMatch:
    """An annotated track and how well the model covers it."""

    video: str
    label: str
    overlap: float
    """With the best track of the right class, over the whole video; 0 without one."""
    size: float
    """Share of the frame that it covers, the mean over the frames that show it."""


def track_matches(annotations: Annotations, results: Sequence[AnnotatedTrack]) -> list[TrackMatch]:
    """The best match of every annotated track."""
    videos = {video.video_id: video for video in annotations.videos}
    names = dict(zip(annotations.labels.ids, annotations.labels.names, strict=True))
    matches = []
    for truth in annotations.tracks:
        rivals = [
            each.segmentations
            for each in results
            if (each.video_id, each.category_id) == (truth.video_id, truth.category_id)
        ]
        overlap = track_overlaps(rivals, [truth.segmentations]).max() if rivals else 0.0
        video = videos[truth.video_id]
        areas = [coco_mask.area(rle) for rle in truth.segmentations if rle is not None]
        matches.append(
            TrackMatch(
                Path(video.file_names[0]).parts[0],
                names[truth.category_id],
                float(overlap),
                float(np.mean(areas or [0])) / (video.height * video.width),
            )
        )
    return matches


def found_by_size(matches: Sequence[TrackMatch]) -> dict[str, float]:
    """The share of objects over ``FOUND``, for small, medium and large ones."""
    shares = {}
    for low, high in pairwise(SIZES):
        inside = [match.overlap > FOUND for match in matches if low <= match.size < high]
        if inside:
            shares[f"found, {low:.0%} to {high:.0%} ({len(inside)})"] = float(np.mean(inside))
    return shares


def stray_tracks(
    annotations: Annotations, results: Sequence[AnnotatedTrack], score: float = TRACK_SCORE
) -> list[AnnotatedTrack]:
    """Tracks of at least this score that overlap with no annotated track of their video."""
    strays = []
    for each in results:
        truths = [t.segmentations for t in annotations.tracks if t.video_id == each.video_id]
        best = track_overlaps([each.segmentations], truths).max() if truths else 0.0
        if each.score >= score and best < STRAY:
            strays.append(each)
    return strays


def exhaustive_only(annotations: Annotations) -> Annotations:
    """The videos in which everything is annotated."""
    videos = tuple(video for video in annotations.videos if video.exhaustive)
    kept = {video.video_id for video in videos}
    tracks = tuple(track for track in annotations.tracks if track.video_id in kept)
    return replace(annotations, videos=videos, tracks=tracks)


def run_model(model: Model, data: Path, pictures: Path | None) -> list[AnnotatedTrack]:
    """Every track of the model in a data set."""
    check_labels(model.labels, EVERYDAY)
    collector = TrackCollector(model.labels)
    run(model, open_source(str(data), pictures), [collector], RunOptions(record=True))
    return collector.tracks


def score_videos(model: Model, data: Path, pictures: Path | None) -> dict[str, float]:
    """The figures of real videos; prints one line for each track."""
    original = read_annotations(data)
    annotations = as_everyday(original)
    results = run_model(model, data, pictures)
    matches = track_matches(annotations, results)
    for match in sorted(matches, key=lambda each: each.overlap):
        print(f"  {match.overlap:.3f}  {match.label:<10} {match.size:6.1%}  {match.video}")
    complete = exhaustive_only(annotations)
    inside = {video.video_id for video in complete.videos}
    of_complete = [track for track in results if track.video_id in inside]
    # Objects of categories that the model does not know are annotated too, and are not strays.
    strays = stray_tracks(original, results)
    overlaps = np.array([match.overlap for match in matches])
    return {
        "tracks": len(matches),
        "mean_overlap": float(overlaps.mean()),
        "found": float((overlaps > FOUND).mean()),
        **found_by_size(matches),
        "ap50": score_tracks(complete, of_complete).figures["AP50"],
        "strays_per_video": len(strays) / len(annotations.videos),
        "strays_per_complete_video": sum(each.video_id in inside for each in strays) / len(inside),
    }


def score_stills(model: Model, data: Path, pictures: Path | None, share: float) -> dict[str, float]:
    """Mask AP and AP50 of single frames, in all and by class and size."""
    with tempfile.TemporaryDirectory() as folder:
        chosen = data
        if share:
            chosen = Path(folder) / "held_out.json"
            chosen.write_text(json.dumps(split_annotations(data, share).validation))
            pictures = pictures or data.parent / "JPEGImages"
        annotations = as_everyday(read_annotations(chosen))
        results = run_model(model, chosen, pictures)
    score = score_tracks(annotations, results)
    figures = {"photos": float(len(annotations.videos)), "objects": float(len(annotations.tracks))}
    figures |= {name: score.figures[name] for name in ("AP", "AP50")}
    for number, name in zip(EVERYDAY.ids, EVERYDAY.names, strict=True):
        figures[f"AP50 {name}"] = score.curves.ap(0.5, number)
    return figures | found_by_size(track_matches(annotations, results))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", help="everyday, a bundle, or weights")
    parser.add_argument("--videos", type=Path, help="json of real videos")
    parser.add_argument("--stills", type=Path, help="json of photos")
    parser.add_argument("--pictures", type=Path, help="folder of the frames")
    parser.add_argument("--share", type=float, default=0.0, help="of the photos: the held-out part")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--precision", default="")
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    model = load(
        options.model, options.backend, precision=options.precision, threads=options.threads
    )
    if options.videos:
        _print(score_videos(model, options.videos, options.pictures))
    if options.stills:
        _print(score_stills(model, options.stills, options.pictures, options.share))


def _print(figures: dict[str, float]) -> None:
    for name, value in figures.items():
        print(f"{name:>28}  {value:.3f}")


if __name__ == "__main__":
    main()
