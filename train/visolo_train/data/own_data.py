"""A user's own data set, made ready for a training: its classes, its annotated frames, and a part
of them held out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pycocotools import mask as coco_mask

from visolo_core.categories import LabelSet, plain_name
from visolo_core.errors import VisoloError
from visolo_core.files import inside
from visolo_train.data.annotations import AnnotatedTrack, Annotations, read_annotations
from visolo_train.data.held_out import hold_out, only_frames, shown_positions

_NAMED = 5  # classes that a sentence lists
FEW = 10  # annotated frames: with fewer, little can be expected


@dataclass(frozen=True)
class OwnData:
    """A data set, divided."""

    training: Annotations
    held_out: Annotations
    images: Path
    """Folder of the frames of both."""
    notes: tuple[str, ...]
    """What was left out, in sentences."""

    @property
    def frames(self) -> int:
        """Frames to learn from that show an object."""
        return count_frames(self.training)


def read_own_data(
    path: Path,
    images: Path | None = None,
    classes: Sequence[str] = (),
    empty_frames: bool = False,
    crowd_objects: bool = False,
) -> OwnData:
    """Read a data set in YouTube-VIS or COCO format and hold a part of it out.

    Args:
        path: of the json.
        images: folder of its frames; None means ``JPEGImages`` beside it.
        classes: names of the classes to learn; without any, all that have an object.
        empty_frames: keep frames without a mask of any class, in which there is nothing then.
        crowd_objects: read crowds as objects.

    Raises:
        VisoloError: if it cannot be read, a frame is missing, it has no such class, or there is too
            little to learn from.
    """
    whole = read_annotations(path, crowd_objects)
    folder = (images or path.parent / "JPEGImages").absolute()
    _check_frames(whole, path, folder)
    # Without that word, objects in a frame without a mask may be there and not outlined yet.
    annotated = whole if empty_frames else only_frames(whole, shown_positions(whole.tracks))
    chosen = _only_classes(annotated, path, classes)
    frames = count_frames(chosen)
    if frames < 2:
        raise VisoloError(
            f"'{path}' has one annotated frame: it takes two at least, one to learn from and one "
            "to hold out; ten to thirty are a good beginning"
        )
    training, held_out = hold_out(chosen)
    notes = [*_left_out(whole, chosen)]
    if frames < FEW:
        notes.append(f"{frames} annotated frames are few: ten to thirty are a good beginning")
    return OwnData(training, held_out, folder, tuple(notes))


def count_frames(annotations: Annotations) -> int:
    """Frames that show an object."""
    shown = shown_positions(track for track in annotations.tracks if not track.crowd)
    return sum(map(len, shown.values()))


def as_document(annotations: Annotations) -> dict[str, Any]:
    """A data set as the content of a YouTube-VIS json file."""
    labels = annotations.labels
    return {
        "categories": [
            {"id": number, "name": name}
            for number, name in zip(labels.ids, labels.names, strict=True)
        ],
        "videos": [
            {
                "id": video.video_id,
                "height": video.height,
                "width": video.width,
                "length": len(video.file_names),
                "file_names": list(video.file_names),
                "exhaustive": video.exhaustive,
            }
            for video in annotations.videos
        ],
        "annotations": [
            {
                "id": number,
                "video_id": track.video_id,
                "category_id": track.category_id,
                "iscrowd": int(track.crowd),
                "segmentations": list(track.segmentations),
                **({} if track.areas is None else {"areas": list(track.areas)}),
            }
            for number, track in enumerate(annotations.tracks, start=1)
        ],
    }


def _check_frames(annotations: Annotations, path: Path, images: Path) -> None:
    if not annotations.videos:
        raise VisoloError(f"'{path}' has no images and no videos")
    for video in annotations.videos:
        for name in video.file_names:
            if not inside(images, name).is_file():
                raise VisoloError(
                    f"'{path}' names the frame '{name}', which is not in '{images}': name the "
                    "folder of the frames with --images"
                )


def _only_classes(annotations: Annotations, path: Path, classes: Sequence[str]) -> Annotations:
    """The objects of some classes; the frames stay."""
    labels = annotations.labels
    by_name = {plain_name(n): i for i, n in zip(labels.ids, labels.names, strict=True)}
    for name in classes:
        if plain_name(name) not in by_name:
            raise VisoloError(f"'{path}' has no class '{name}': it has {_listed(labels.names)}")
    tracks = tuple(map(_without_empty_masks, annotations.tracks))
    present = {
        track.category_id for track in tracks if not track.crowd and any(track.segmentations)
    }
    if not present:
        raise VisoloError(f"'{path}' has {_instead_of_objects(tracks)}")
    wanted = {by_name[plain_name(name)] for name in classes} or present
    names = dict(zip(labels.ids, labels.names, strict=True))
    if wanted - present:
        missing = [names[number] for number in sorted(wanted - present)]
        raise VisoloError(f"'{path}' has no object of class {_listed(missing)}")
    kept = tuple(number for number in labels.ids if number in wanted)
    return Annotations(
        LabelSet(path.stem, kept, tuple(names[number] for number in kept)),
        annotations.videos,
        tuple(each for each in tracks if each.category_id in wanted and any(each.segmentations)),
    )


def _without_empty_masks(track: AnnotatedTrack) -> AnnotatedTrack:
    """A track without the masks that have no pixel."""
    masks = tuple(
        rle if rle is not None and coco_mask.area(rle) > 0 else None for rle in track.segmentations
    )
    return replace(track, segmentations=masks)


def _instead_of_objects(tracks: Sequence[AnnotatedTrack]) -> str:
    if any(track.crowd for track in tracks):
        return (
            "only crowds ('iscrowd'), which are never learnt from: outline single objects, or if "
            "these are objects, as CVAT exports its brush masks, add --crowd-objects"
        )
    return "no masks: every object to learn from needs a polygon or run lengths, not a box alone"


def _left_out(whole: Annotations, chosen: Annotations) -> Iterator[str]:
    before = sum(len(video.file_names) for video in whole.videos)
    after = sum(len(video.file_names) for video in chosen.videos)
    if after < before:
        yield (
            f"{before - after} of {before} frames have no mask and are left out; if nothing is in "
            "them, --empty-frames keeps them"
        )
    others = [name for name in whole.labels.names if name not in chosen.labels.names]
    if others:
        yield f"classes that are not learnt: {_listed(others)}"


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
