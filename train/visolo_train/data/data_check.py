"""Everything that is wrong with a data set, reported before a training fails on it."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from os import cpu_count
from pathlib import Path
from typing import Any

from PIL import Image
from pycocotools import mask as coco_mask

from visolo_core.categories import LabelSet
from visolo_core.errors import VisoloError
from visolo_core.files import inside
from visolo_train.data.annotations import Annotations, Video, check_categories, scan_annotations

_AT_ONCE = 1000  # frames that wait for a thread


@dataclass(frozen=True)
class DataReport:
    """The problems of a data set, and what it contains."""

    problems: tuple[str, ...]
    """Sentences: these stop a training, or spoil it."""
    notes: tuple[str, ...]
    """Sentences: worth knowing, harmless."""
    summary: dict[str, str]
    """Numbers of the data set, by what they count."""
    tracks_per_category: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        """Ready for json."""
        return {
            "problems": list(self.problems),
            "notes": list(self.notes),
            "summary": self.summary,
            "tracks_per_category": self.tracks_per_category,
        }


def check_data(
    path: Path,
    images: Path | None,
    labels: LabelSet | None = None,
    decode: bool = True,
    crowd_objects: bool = False,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> DataReport:
    """Look for everything that would break a training or an evaluation.

    Args:
        path: annotations in YouTube-VIS or COCO format.
        images: folder of the frames; None leaves them unread.
        labels: of the network to be trained; its ids are compared.
        decode: decode the frames; otherwise read only their headers.
        crowd_objects: read crowds as objects.
        progress: called with the number of frames checked, and of all.

    Raises:
        VisoloError: if the file cannot be read, or is of another format.
    """
    problems: list[str] = []
    annotations = scan_annotations(path, problems.append, problems.append, crowd_objects)
    if labels is not None:
        try:
            check_categories(annotations.labels, labels)
        except VisoloError as error:
            problems.append(str(error))
    if not annotations.videos:
        problems.append("the file lists no video")
    problems += _unannotated_videos(annotations)
    problems += _without_masks(annotations, path, images)
    if images is not None:
        problems += _frames(annotations.videos, images, decode, progress)
    return DataReport(
        tuple(problems),
        tuple(_notes(annotations)),
        _summary(annotations),
        _tracks_per_category(annotations),
    )


def _frames(
    videos: tuple[Video, ...],
    images: Path,
    decode: bool,
    progress: Callable[[int, int], None],
) -> Iterator[str]:
    if not images.is_dir():
        yield f"there is no folder '{images}' with the frames"
        return
    everything = [(video, name) for video in videos for name in video.file_names]
    waiting = iter(everything)
    done = 0
    with ThreadPoolExecutor(cpu_count()) as threads:
        while part := list(islice(waiting, _AT_ONCE)):
            for problem in threads.map(lambda each: _frame(each[0], each[1], images, decode), part):
                if problem:
                    yield problem
                done += 1
                progress(done, len(everything))


def _frame(video: Video, name: str, images: Path, decode: bool) -> str | None:
    where = f"video {video.video_id}, frame '{name}'"
    try:
        path = inside(images, name)
        if not path.is_file():
            return f"{where} is missing: there is no file '{path}'"
        with Image.open(path) as image:
            width, height = image.size
            if decode:
                image.load()
    except VisoloError as error:
        return f"{where}: {error}"
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return f"{where} cannot be read: {error}"
    if (height, width) != (video.height, video.width):
        return f"{where} is {width}x{height}, the annotations say {video.width}x{video.height}"
    return None


def _unannotated(annotations: Annotations) -> list[Video]:
    annotated = {track.video_id for track in annotations.tracks}
    return [video for video in annotations.videos if video.video_id not in annotated]


def _unannotated_videos(annotations: Annotations) -> Iterator[str]:
    for video in _unannotated(annotations):
        if len(video.file_names) > 1:
            yield (
                f"video {video.video_id} (first frame '{video.file_names[0]}') has no annotation: "
                "it cannot be trained on, and every result in it counts as a false alarm"
            )


def _without_masks(annotations: Annotations, path: Path, images: Path | None) -> Iterator[str]:
    """What a training cannot use although it is well formed."""
    empty = [
        f"video {track.video_id} category {track.category_id}"
        for track in annotations.tracks
        if any(rle is not None and not coco_mask.area(rle) for rle in track.segmentations)
    ]
    if empty:
        yield (
            f"{len(empty)} tracks have masks without a pixel: {_first(empty)}: draw them again, or "
            "write null in place of each"
        )
    if annotations.videos and not annotations.tracks:
        yield (
            "there is no annotation that can be used, so there is nothing to learn: outline the "
            "objects"
        )
        return
    masks = [track for track in annotations.tracks if any(track.segmentations)]
    if annotations.tracks and not masks:
        yield "no annotation has a mask, and boxes are not trained on: draw masks" + (
            f", or fill the boxes with: {_importing(path, images)} --boxes -o NEW.json"
            if annotations.of_images
            else ""
        )
    elif masks and all(track.crowd for track in masks):
        yield (
            "every mask is a crowd, which is not trained on: if they are objects, as in CVAT's "
            "export of masks that were drawn with its brush, train with --crowd-objects"
        ) + (
            f", or write them as objects with: {_importing(path, images)} --crowd-objects "
            "-o NEW.json"
            if annotations.of_images
            else ""
        )
    elif annotations.tracks and not any(track.is_object for track in annotations.tracks):
        yield "there is no object to learn: every mask is a crowd or has no pixel"


def _importing(path: Path, images: Path | None) -> str:
    """The command that imports a file of COCO."""
    command = f"visolo data import {shlex.quote(str(path))}"
    if images is None or images == path.parent / "JPEGImages":
        return command
    return f"{command} --images {shlex.quote(str(images))}"


def _notes(annotations: Annotations) -> Iterator[str]:
    images = [
        video.file_names[0] for video in _unannotated(annotations) if len(video.file_names) == 1
    ]
    if images:
        yield f"{len(images)} images have no annotation and are not trained on: {_first(images)}"
    unseen = [
        f"video {track.video_id} category {track.category_id}"
        for track in annotations.tracks
        if not any(track.segmentations)
    ]
    if unseen:
        yield f"{len(unseen)} tracks have no mask in any frame: {_first(unseen)}"
    crowds = sum(track.crowd for track in annotations.tracks)
    if 0 < crowds < len(annotations.tracks):
        yield (
            f"{crowds} crowds are not trained on: if they are objects, as in CVAT's export of "
            "masks that were drawn with its brush, --crowd-objects reads them as such"
        )
    counts = _tracks_per_category(annotations)
    without = [name for name, count in counts.items() if not count]
    if without:
        yield f"{len(without)} categories have no track: {_first(without)}"


def _first(things: list[Any]) -> str:
    """The first few of a list, for a sentence."""
    dots = ", ..." if len(things) > 5 else ""
    return ", ".join(str(each) for each in things[:5]) + dots


def _summary(annotations: Annotations) -> dict[str, str]:
    lengths = [len(video.file_names) for video in annotations.videos] or [0]
    sizes = Counter(f"{video.width}x{video.height}" for video in annotations.videos)
    visible: set[tuple[int, int]] = set()
    masks = 0
    for track in annotations.tracks:
        frames = [at for at, rle in enumerate(track.segmentations) if rle is not None]
        visible |= {(track.video_id, at) for at in frames}
        masks += len(frames)
    tracks = Counter(track.video_id for track in annotations.tracks)
    return {
        "videos": str(len(annotations.videos)),
        "frames": f"{sum(lengths)}, {min(lengths)} to {max(lengths)} a video",
        "sizes": ", ".join(f"{size} ({count})" for size, count in sizes.most_common(3))
        + (f" and {len(sizes) - 3} more" if len(sizes) > 3 else ""),
        "tracks": f"{len(annotations.tracks)}, at most {max(tracks.values(), default=0)} a video",
        "crowds": str(sum(track.crowd for track in annotations.tracks)),
        "masks": str(masks),
        "frames without an object": str(sum(lengths) - len(visible)),
        "categories": str(len(annotations.labels)),
    }


def _tracks_per_category(annotations: Annotations) -> dict[str, int]:
    counts = Counter(track.category_id for track in annotations.tracks)
    labels = annotations.labels
    return {name: counts[number] for number, name in zip(labels.ids, labels.names, strict=True)}
