"""The results of a video: its tracks, and the file formats of tracks and frames."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypedDict

import numpy as np

from visolo_core.association import TrackState
from visolo_core.categories import LabelSet
from visolo_core.instances import Instances
from visolo_core.masks import Rle, encode_rle, resize_masks


@dataclass(frozen=True)
class Track:
    """One object over a whole video: the paper's video-level result."""

    track_id: int
    label: int
    """Class index."""
    score: float
    """Mean class score over its frames."""
    segmentations: tuple[Rle | None, ...]
    """One mask per frame of the video, None where the object was not seen."""


@dataclass
class TrackRecorder:
    """Collects the tracks of a video. It grows with the video, so live streams do not use one.

    It keeps masks at the network's input size as compressed bits, and resizes them to the video's
    size only when the tracks are requested. That saves memory, and time in every step.
    """

    _states: dict[int, TrackState] = field(default_factory=dict)
    _masks: dict[int, dict[int, bytes]] = field(default_factory=dict)

    def add(self, instances: Instances, states: Sequence[TrackState]) -> None:
        """Record the instances of a frame and the tracks that they belong to."""
        for state, mask in zip(states, instances.input_masks, strict=True):
            self._states[state.track_id] = state
            packed = zlib.compress(np.packbits(mask).tobytes(), level=1)
            self._masks.setdefault(state.track_id, {})[instances.frame] = packed

    @property
    def states(self) -> list[TrackState]:
        """All tracks so far, in the order in which they began."""
        return list(self._states.values())

    def masks(self) -> Iterator[tuple[int, int, bytes]]:
        """Track, frame and compressed mask of everything that was recorded."""
        for track_id, masks in self._masks.items():
            for frame, packed in masks.items():
                yield track_id, frame, packed

    def resume(self, states: Iterable[TrackState], masks: Iterable[tuple[int, int, bytes]]) -> None:
        """Go on where another one stopped.

        Args:
            states: of the other.
            masks: of the other.
        """
        self._states = {state.track_id: state for state in states}
        self._masks = {track_id: {} for track_id in self._states}
        for track_id, frame, packed in masks:
            self._masks[track_id][frame] = packed

    def tracks(
        self, frames: int, input_size: tuple[int, int], size: tuple[int, int]
    ) -> list[Track]:
        """The tracks, in the order in which they began.

        Args:
            frames: length of the video.
            input_size: (H, W) of the recorded masks.
            size: (height, width) of the masks in the result.
        """

        def unpack(packed: bytes | None) -> Rle | None:
            if packed is None:
                return None
            bits = np.frombuffer(zlib.decompress(packed), np.uint8)
            mask = np.unpackbits(bits, count=input_size[0] * input_size[1]).reshape(input_size)
            return encode_rle(resize_masks(mask[None], size)[0])

        return [
            Track(
                state.track_id,
                *state.classify(),
                tuple(unpack(self._masks[state.track_id].get(frame)) for frame in range(frames)),
            )
            for state in self._states.values()
        ]


class VideoResult(TypedDict):
    """One entry of a YouTube-VIS results file."""

    video_id: int
    category_id: int
    score: float
    segmentations: list[Rle | None]


def ytvis_results(video_id: int, tracks: Iterable[Track], labels: LabelSet) -> list[VideoResult]:
    """Tracks in the YouTube-VIS submission format, with the data set's own category ids."""
    return [
        {
            "video_id": video_id,
            "category_id": labels.ids[track.label],
            "score": track.score,
            "segmentations": list(track.segmentations),
        }
        for track in tracks
    ]


class FrameInstance(TypedDict):
    """One instance in a line of ``visolo run --frames``."""

    track_id: int
    category_id: int
    label: str
    score: float
    track_category_id: int
    track_label: str
    track_score: float
    segmentation: Rle


def frame_record(instances: Instances) -> list[FrameInstance]:
    """The instances of a frame, ready for json, with the data set's own category ids."""
    ids = instances.labels.ids
    return [
        {
            "track_id": each.track_id,
            "category_id": ids[int(instances.class_id[each.index])],
            "label": each.label,
            "score": each.score,
            "track_category_id": ids[int(instances.track_class_id[each.index])],
            "track_label": each.track_label,
            "track_score": each.track_score,
            "segmentation": each.rle,
        }
        for each in instances
    ]
