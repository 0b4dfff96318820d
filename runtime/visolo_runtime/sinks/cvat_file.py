"""The tracks of a clip as CVAT's XML, to be corrected there: see :mod:`visolo_core.cvat`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from visolo_core.categories import LabelSet
from visolo_core.cvat import CvatFrame, CvatShape, annotations_xml, encode_cvat, frame_name
from visolo_core.instances import Instances
from visolo_core.masks import decode_rle
from visolo_core.results import Track
from visolo_runtime.sinks.sink import FileSink
from visolo_runtime.sources.clip import Clip, SourceFrame


class CvatFile(FileSink):
    """CVAT's XML of one clip, written when the clip is over.

    Frames that are files have their own names, others those that CVAT gives to the frames of a
    video. The category is that of the track, so that an object has one in all frames.
    """

    def __init__(self, path: Path, labels: LabelSet) -> None:
        super().__init__(path)
        self._labels = labels
        self._size = (0, 0)
        self._finished = False

    def frame(self, clip: Clip, frame: SourceFrame, instances: Instances) -> None:
        self._size = instances.size

    def end(self, clip: Clip, tracks: list[Track]) -> None:
        parts = annotations_xml(
            clip.name, self._labels.names, self._frames(clip, tracks), source="auto"
        )
        with self._temporary.open("w", encoding="utf-8") as file:
            file.writelines(parts)
        self._finished = True

    def commit(self) -> None:
        if self._finished:
            super().commit()
        else:
            self.discard()  # interrupted before the first frame

    def _frames(self, clip: Clip, tracks: list[Track]) -> Iterator[CvatFrame]:
        length = max((len(track.segmentations) for track in tracks), default=0)
        for number in range(length):
            name = clip.frame_names[number] if clip.frame_names else frame_name(number)
            shapes = []
            for track in tracks:
                rle = track.segmentations[number]
                mask = None if rle is None else encode_cvat(decode_rle(rle))
                if mask is not None:
                    label = self._labels.names[track.label]
                    shapes.append(CvatShape(label, track.track_id, mask))
            yield CvatFrame(number, name, self._size, shapes)
