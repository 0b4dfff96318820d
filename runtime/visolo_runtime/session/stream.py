"""The state of one video that is kept on the host.

A stream owns the frame numbers of its memory slots and its tracks. The contents of its slots, and
the keys that the next frame is compared with, are in its row of the buffers.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visolo_core import memory_policy
from visolo_core.association import Associator, TrackState, classify
from visolo_core.categories import LabelSet
from visolo_core.config import InferenceConfig
from visolo_core.decoding import Candidates, Ints, select_instances
from visolo_core.errors import VisoloError
from visolo_core.instances import Instances
from visolo_core.results import Track, TrackRecorder
from visolo_runtime.engines.blas import one_thread_for
from visolo_runtime.engines.buffers import Array, DecodedMasks, FrameInput, Storage
from visolo_runtime.engines.raw_frame import RawFrame
from visolo_runtime.video.frames import ResizedFrame

STAGES = (
    "resize", "frame graph", "mask graph", "decode graph", "select", "associate", "memory graph",
    "record",
)  # fmt: skip
GRAPH_STAGES = ("frame graph", "mask graph", "decode graph", "memory graph")


@dataclass(frozen=True)
class StreamOptions:
    """What a stream does with its video."""

    inference: InferenceConfig
    """thresholds and limits"""
    labels: LabelSet
    record: bool = True
    """Keep every mask for :meth:`Stream.finish`. If False, memory use stays constant however long
    the video is, and there is no video-level result."""
    output_size: tuple[int, int] | None = None
    """Height and width of the masks; None means the frame's own size."""
    device_masks: bool = False
    """Hand the masks out on the device too."""
    classes: tuple[int, ...] | None = None
    """Class indices of the instances that are kept, as if the network knew no others; None keeps
    all."""


@dataclass
class StreamFrame:
    """One frame of a stream, on its way through a step."""

    stream: Stream
    frame: ResizedFrame | RawFrame
    number: int = -1
    """in the video, from 0; known when its step begins"""
    stage_ms: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    """milliseconds of each stage of its step"""

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time of a block to a stage."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.stage_ms[stage] += (time.perf_counter() - begin) * 1e3


class Stream:
    """The state of one video.

    Args:
        options: what to do with it.
        row: its row in the buffers.
        slots: memory slots T in the buffers.
        input_size: height and width of the images in the buffers.

    Raises:
        VisoloError: if the options need more memory slots than the buffers have.
    """

    def __init__(
        self, options: StreamOptions, row: int, slots: int, input_size: tuple[int, int]
    ) -> None:
        inference = options.inference
        if inference.memory_slots > slots:
            raise VisoloError(
                f"the settings need {inference.memory_slots} memory slots, but the model was "
                f"exported with {slots}: export it again with more --memory-slots"
            )
        self.row = row
        self.position = 0
        """Frames of the video so far, including skipped ones."""
        self.stage_ms: dict[str, float] = dict.fromkeys(STAGES, 0.0)
        """Milliseconds of each stage of the last frame that was followed."""
        self._options, self._inference = options, inference
        self._all_slots, self._input_size = slots, input_size
        self._recorder = TrackRecorder() if options.record else None
        self._kept: NDArray[np.bool_] | None = None
        if options.classes is not None:
            self._kept = np.isin(np.arange(len(options.labels)), options.classes)
        self._associator = Associator(
            match_threshold=inference.match_threshold,
            lost_limit=inference.lost_limit,
            return_threshold=inference.return_threshold,
            track_score_power=inference.track_score_power,
        )
        self._slots = (memory_policy.EMPTY,) * inference.memory_slots
        self.frame_size: tuple[int, int] | None = None
        """Height and width of the video's frames; None before the first."""
        self._computed = 0  # frames that the network has seen

    @property
    def tracks_begun(self) -> int:
        """Number of tracks begun since the start of the video."""
        return self._associator.tracks_begun

    # --------------------------------------------------------- the parts of a step, in call order

    def check(self, frame: ResizedFrame | RawFrame) -> None:
        """Check that a frame can be the next one of the video; the stream does not change.

        Raises:
            VisoloError: if it was resized for another model, or its size is not the video's.
        """
        size, expected = frame.size, self._input_size
        resized_to = frame.image.shape[:2] if isinstance(frame, ResizedFrame) else expected
        if resized_to != expected:
            raise VisoloError(
                f"a frame was resized ahead to {resized_to[1]}x{resized_to[0]}, "
                f"but this model takes {expected[1]}x{expected[0]}"
            )
        first = self.frame_size
        if first is not None and size != first:
            raise VisoloError(
                f"frame {self.position} is {size[1]}x{size[0]}, but the video began with "
                f"{first[1]}x{first[0]}: all frames of a video must have the same size"
            )

    def inputs(self, frame: StreamFrame) -> FrameInput:
        """Begin a frame: what the frame graph needs for it."""
        frame.number = self.position
        self.frame_size = frame.frame.size
        valid = np.zeros(self._all_slots + 1, bool)
        valid[: len(self._slots)] = [stored != memory_policy.EMPTY for stored in self._slots]
        valid[-1] = not valid.any()
        # From the second frame on there is a previous one; the first is kept and from the third
        # frame on lies before it.
        recent = np.array([self._computed > 0, self._computed > 1])
        image = frame.frame.image if isinstance(frame.frame, ResizedFrame) else frame.frame
        return FrameInput(image, valid, recent, self._inference.score_threshold)

    def remember(self) -> Storage:
        """Finish this frame: update the memory's slots and go on to the next frame.

        Returns:
            where this frame must be stored.
        """
        frame, every = self._computed, self._inference.keep_every
        slot = None
        if self._slots:
            self._slots, slot = memory_policy.store(self._slots, frame, every)
        self._computed += 1
        self.position += 1
        # Seen from the next frame, the previous frame is two back: the newest kept one.
        return Storage(slot, keeps_previous=frame > 0 and (frame - 1) % every == 0)

    def follow(
        self, frame: StreamFrame, candidates: Candidates, decoded: DecodedMasks | None
    ) -> Instances:
        """The instances of a frame, each continuing its track or beginning one.

        Args:
            frame: the frame.
            candidates: the cells that the frame graph chose.
            decoded: their masks; None if there are no candidates.
        """
        with frame.timed("select"):
            if decoded is None:
                chosen, score = np.empty(0, np.int64), np.empty(0, np.float32)
                masks = np.empty((0, *self._input_size), np.uint8)
            else:
                chosen, score = select_instances(
                    candidates,
                    decoded.area,
                    decoded.probability_sum,
                    decoded.intersection,
                    self._inference,
                    None if self._kept is None else self._kept[candidates.label],
                )
                masks = decoded.masks[chosen]
        with frame.timed("associate"):
            class_scores = candidates.classes[chosen]
            if self._kept is not None:
                class_scores = np.where(self._kept, class_scores, np.float32(0))
            query, key = candidates.query[chosen], candidates.key[chosen]
            with one_thread_for(self._associator.comparable * key.size):
                tracks = self._associator.step(query, key, class_scores)
            track_class, track_confidence = classify(tracks)
            instances = Instances(
                frame=frame.number,
                size=self._options.output_size or frame.frame.size,
                labels=self._options.labels,
                tracker_id=np.array([track.track_id for track in tracks], np.int64),
                class_id=candidates.label[chosen],
                confidence=score,
                track_class_id=track_class,
                track_confidence=track_confidence,
                cell=candidates.cell[chosen],
                input_masks=masks,
                device_masks=self._device_masks(decoded, chosen),
            )
        if self._recorder is not None:
            with frame.timed("record"):
                self._recorder.add(instances, tracks)
        self.stage_ms = frame.stage_ms
        return instances

    def _device_masks(self, decoded: DecodedMasks | None, chosen: Ints) -> tuple[Any, ...] | None:
        if not self._options.device_masks:
            return None
        return tuple(decoded.on_device[at] for at in chosen) if decoded else ()

    # ------------------------------------------------------------------------------ its state

    def save(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """What the host knows of the video: a header, ready for json, and arrays."""
        groups = self._associator.groups()
        recorded = self._recorder.states if self._recorder else []
        tracks = {each.track_id: each for each in (*recorded, *chain.from_iterable(groups))}
        masks = list(self._recorder.masks()) if self._recorder else []
        header = {
            "labels": list(self._options.labels.names),
            "position": self.position,
            "computed": self._computed,
            "slots": self._slots,
            "frame_size": self.frame_size,
            "tracks_begun": self.tracks_begun,
            "groups": [[track.track_id for track in group] for group in groups],
            "recorded": [track.track_id for track in recorded],
            "records": self._recorder is not None,
        }
        return header, {
            "track_id": np.array(list(tracks), np.int64),
            "track_query": np.array([each.query for each in tracks.values()], np.float32),
            "track_score_sum": np.array([each.score_sum for each in tracks.values()], np.float64),
            "track_frames": np.array([each.frames_seen for each in tracks.values()], np.int64),
            "mask_place": np.array([each[:2] for each in masks], np.int64).reshape(-1, 2),
            "mask_length": np.array([len(each[2]) for each in masks], np.int64),
            "mask_bytes": np.frombuffer(b"".join(each[2] for each in masks), np.uint8),
        }

    def restore(self, header: dict[str, Any], arrays: dict[str, Array]) -> None:
        """Go on where another stream stopped.

        Raises:
            VisoloError: if it had other settings.
        """
        if header["labels"] != list(self._options.labels.names):
            raise VisoloError("the state is of another model: begin anew")
        if header["records"] != (self._recorder is not None):
            raise VisoloError("the state is of a session with another 'record': open one like it")
        if len(header["slots"]) != len(self._slots):
            raise VisoloError("the state is of a session with other memory slots: open one like it")
        rows = zip(
            arrays["track_id"].tolist(), arrays["track_query"], arrays["track_score_sum"],
            arrays["track_frames"].tolist(), strict=True,
        )  # fmt: skip
        tracks = {row[0]: TrackState(row[0], row[1].copy(), row[2].copy(), row[3]) for row in rows}
        groups = [[tracks[track_id] for track_id in group] for group in header["groups"]]
        self._associator.resume(groups, int(header["tracks_begun"]))
        if self._recorder is not None:
            ends = np.cumsum(arrays["mask_length"])
            begins = ends - arrays["mask_length"]
            data = arrays["mask_bytes"].tobytes()
            places = zip(arrays["mask_place"].tolist(), begins, ends, strict=True)
            self._recorder.resume(
                [tracks[track_id] for track_id in header["recorded"]],
                [(place[0], place[1], data[begin:end]) for place, begin, end in places],
            )
        size = header["frame_size"]
        self.frame_size = None if size is None else (int(size[0]), int(size[1]))
        self._slots = tuple(int(each) for each in header["slots"])
        self.position, self._computed = int(header["position"]), int(header["computed"])

    # ------------------------------------------------------------------------------ the video

    def finish(self) -> list[Track]:
        """The tracks of the video so far.

        Raises:
            VisoloError: if the stream does not record.
        """
        if self._recorder is None:
            raise VisoloError(
                "this session was opened with record=False and kept no masks: use record=True"
            )
        return self._recorder.tracks(self.position, self._input_size, self._mask_size)

    @property
    def _mask_size(self) -> tuple[int, int]:
        return self._options.output_size or self.frame_size or self._input_size
