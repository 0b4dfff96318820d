"""A data set as CVAT's XML, a file for each video: see :mod:`visolo_core.cvat`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from visolo_core.cvat import CvatFrame, CvatShape, annotations_xml, encode_cvat
from visolo_core.masks import decode_rle
from visolo_train.data.annotations import AnnotatedTrack, Annotations, Video


def write_cvat(annotations: Annotations, folder: Path) -> None:
    """Write a file for each video, by its id. Crowds, which CVAT has no form for, are left out.

    Args:
        annotations: the data set.
        folder: an existing one.

    Raises:
        VisoloError: if a name has a character that XML has no form for.
    """
    for video in annotations.videos:
        tracks = [
            (number, track)
            for number, track in enumerate(annotations.tracks, start=1)
            if track.video_id == video.video_id and not track.crowd
        ]
        parts = annotations_xml(
            f"video {video.video_id}", annotations.labels.names, _frames(annotations, video, tracks)
        )
        with (folder / f"{video.video_id}.xml").open("w", encoding="utf-8") as file:
            file.writelines(parts)


def _frames(
    annotations: Annotations, video: Video, tracks: list[tuple[int, AnnotatedTrack]]
) -> Iterator[CvatFrame]:
    names = dict(zip(annotations.labels.ids, annotations.labels.names, strict=True))
    for position, name in enumerate(video.file_names):
        shapes = []
        for number, track in tracks:
            rle = track.segmentations[position]
            mask = None if rle is None else encode_cvat(decode_rle(rle))
            if mask is not None:
                shapes.append(CvatShape(names[track.category_id], number, mask))
        yield CvatFrame(position, name, (video.height, video.width), shapes)
