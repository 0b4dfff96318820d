"""A held-out part of few data: whole pictures or videos where there are enough of them, otherwise a
piece of every video.

Unlike the mini-val of ``split``, whose size is left to chance, it is never empty, no class leaves
the training part for it, and as many classes as possible occur in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from visolo_core.errors import VisoloError
from visolo_train.data.annotations import AnnotatedTrack, Annotations, Video
from visolo_train.data.split import chance_of

SHARE = 0.2
MOST = 100  # pictures or videos: more cost time at every score and say little more
_ENOUGH = 5  # pictures or videos of which one can be spared
_PIECES = 5  # places in a video that its held-out piece may take


def hold_out(annotations: Annotations) -> tuple[Annotations, Annotations]:
    """Divide a data set.

    Args:
        annotations: every category has an object; crowds are no objects.

    Returns:
        the part to learn from, and the held-out part, in which every frame shows an object.

    Raises:
        VisoloError: if nothing can be held out.
    """
    shown = shown_positions(track for track in annotations.tracks if not track.crowd)
    longest = max(map(len, shown.values()))
    if len(shown) < _ENOUGH and longest > 1 and (len(shown) == 1 or longest >= _PIECES):
        return _pieces(annotations, shown)
    return _whole(annotations, shown)


def shown_positions(tracks: Iterable[AnnotatedTrack]) -> dict[int, list[int]]:
    """The frames that show one of the tracks, in order, by the id of their video."""
    positions: dict[int, set[int]] = {}
    for track in tracks:
        visible = [at for at, rle in enumerate(track.segmentations) if rle is not None]
        positions.setdefault(track.video_id, set()).update(visible)
    return {number: sorted(each) for number, each in positions.items() if each}


def only_frames(annotations: Annotations, positions: Mapping[int, Sequence[int]]) -> Annotations:
    """A data set reduced to some frames.

    Args:
        annotations: the whole.
        positions: of the frames to keep, by the id of their video.
    """
    videos = tuple(
        replace(video, file_names=tuple(video.file_names[at] for at in positions[video.video_id]))
        for video in annotations.videos
        if positions.get(video.video_id)
    )
    tracks = []
    for track in annotations.tracks:
        kept = positions.get(track.video_id, ())
        masks = tuple(track.segmentations[at] for at in kept)
        if any(mask is not None for mask in masks):
            areas = track.areas and tuple(track.areas[at] for at in kept)
            tracks.append(replace(track, segmentations=masks, areas=areas))
    return Annotations(annotations.labels, videos, tuple(tracks))


def _whole(
    annotations: Annotations, shown: Mapping[int, Sequence[int]]
) -> tuple[Annotations, Annotations]:
    classes: dict[int, set[int]] = {number: set() for number in shown}
    for track in annotations.tracks:
        if not track.crowd:
            classes[track.video_id].add(track.category_id)
    order = sorted((video for video in annotations.videos if video.video_id in shown), key=_chance)
    taken = _draw([video.video_id for video in order], classes)
    if not taken:
        raise VisoloError(
            f"'{annotations.labels.name}' cannot be divided: every picture has the only object of "
            "some class, and one is needed to learn from and another to hold out"
        )
    rest = {
        video.video_id: range(len(video.file_names))
        for video in annotations.videos
        if video.video_id not in taken
    }
    held_out = {number: shown[number] for number in taken}
    return only_frames(annotations, rest), only_frames(annotations, held_out)


def _draw(order: Sequence[int], classes: Mapping[int, set[int]]) -> set[int]:
    """The videos to hold out.

    Args:
        order: of all videos, random.
        classes: in each video.
    """
    left = Counter(each for number in order for each in classes[number])
    taken: set[int] = set()

    def take(number: int) -> None:
        if number not in taken and all(left[each] > 1 for each in classes[number]):
            taken.add(number)
            left.subtract(classes[number])

    count = min(MOST, max(1, round(SHARE * len(order))))
    for number in order:
        if len(taken) < count:
            take(number)
    for wanted in sorted(left):
        for number in order:
            covered = any(wanted in classes[each] for each in taken)
            if wanted in classes[number] and not covered and len(taken) < 2 * count:
                take(number)
    return taken


def _pieces(
    annotations: Annotations, shown: Mapping[int, Sequence[int]]
) -> tuple[Annotations, Annotations]:
    """The last frames of every video, or others if a class occurs in no other frames."""
    classes = {track.category_id for track in annotations.tracks if not track.crowd}
    for piece in reversed(range(_PIECES)):
        held_out = {
            number: _piece(positions, piece)
            for number, positions in shown.items()
            if len(positions) > 1
        }
        rest = {
            video.video_id: [
                at
                for at in range(len(video.file_names))
                if at not in held_out.get(video.video_id, ())
            ]
            for video in annotations.videos
        }
        training = only_frames(annotations, rest)
        if classes == {track.category_id for track in training.tracks if not track.crowd}:
            return training, only_frames(annotations, held_out)
    raise VisoloError(
        f"'{annotations.labels.name}' cannot be divided: its classes occur in too few frames to "
        "hold some of them out"
    )


def _piece(positions: Sequence[int], piece: int) -> Sequence[int]:
    length = max(1, round(SHARE * len(positions)))
    begin = round(piece / (_PIECES - 1) * (len(positions) - length))
    return positions[begin : begin + length]


def _chance(video: Video) -> tuple[float, int]:
    return chance_of(video.file_names[0], len(video.file_names) > 1), video.video_id
