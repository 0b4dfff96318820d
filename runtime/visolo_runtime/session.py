"""One video stream: frames in, instances with identity out.

A session owns all state of its stream: the memory buffer in its engine chain, the slots' frame
numbers, the keys that the next frame is compared with, and the tracks.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from visolo_core import memory_policy
from visolo_core.association import Associator, TrackState
from visolo_core.config import InferenceConfig
from visolo_core.decoding import (
    Floats,
    Ints,
    choose_cells,
    grid_weight,
    select_instances,
)
from visolo_core.errors import VisoloError
from visolo_core.results import Instances, Track, TrackRecorder
from visolo_runtime.blas import one_thread
from visolo_runtime.chain import Chain, FrameResult
from visolo_runtime.resizing import ResizedFrame, resized

Frame = NDArray[np.uint8] | ResizedFrame
"""uint8 [H, W, 3] RGB; or the same, resized ahead for this model."""

GRAPH_STAGES = ("frame graph", "memory graph", "decode graph")
STAGES = (
    "resize", "frame graph", "choose", "decode graph", "select", "associate", "memory graph",
    "record",
)  # fmt: skip


class Session:
    """Follows the instances of one video, frame by frame.

    Args:
        chain: engines and buffers of this stream alone.
        inference: thresholds and bounds.
        record: keep every mask for :meth:`finish`. Off, memory stays constant however long the
            stream runs, and :meth:`finish` cannot be called.
        output_size: height and width of the masks; None gives them the frame's own size.

    Raises:
        VisoloError: if ``inference`` asks for more memory slots than the engines have.
    """

    def __init__(
        self,
        chain: Chain,
        inference: InferenceConfig,
        record: bool = True,
        output_size: tuple[int, int] | None = None,
    ) -> None:
        if inference.memory_slots > chain.slots:
            raise VisoloError(
                f"{inference.memory_slots} memory slots were asked for, but the model was "
                f"exported with {chain.slots}: export it again with more --memory-slots"
            )
        self._chain = chain
        self._inference = inference
        self._output_size = output_size
        self._recorder = TrackRecorder() if record else None
        self._associator = Associator(inference.match_threshold, inference.lost_limit)
        self._slots = (memory_policy.EMPTY,) * inference.memory_slots
        self._frame_size: tuple[int, int] | None = None
        self._position = 0  # in the video
        self._computed = 0  # frames that the network has seen
        self._previous_key: Floats | None = None
        self._kept_key: Floats | None = None
        self.stage_ms: dict[str, float] = dict.fromkeys(STAGES, 0.0)
        """Milliseconds that each stage of the last step took."""

    def step(self, frame: Frame) -> Instances:
        """The instances of the next frame.

        Args:
            frame: uint8 [H, W, 3] RGB, of the same size as the frames before; or what
                :func:`~visolo_runtime.resizing.resized` has made of it.

        Raises:
            VisoloError: if the frame is of another type, shape or size.
        """
        inputs = self.prepare(frame)
        with self.timed("frame graph"):
            result = self._chain.frame(*inputs)
        instances, slot = self.finish_frame(result)
        if slot is not None:
            with self.timed("memory graph"):
                self._chain.store(slot)
        return instances

    def prepare(self, frame: Frame) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """The first part of a step, for those who run the graphs of several sessions together.

        Args:
            frame: as for :meth:`step`.

        Returns:
            what the frame graph takes: the image, and which slots to read.
        """
        self.stage_ms = dict.fromkeys(STAGES, 0.0)
        with self.timed("resize"):
            if not isinstance(frame, ResizedFrame):
                frame = resized(frame, self._chain.input_size)
        self._check_frame(frame)
        return frame.image, self._valid()

    def finish_frame(self, result: FrameResult) -> tuple[Instances, int | None]:
        """The last part of a step.

        Args:
            result: of the frame graph.

        Returns:
            the instances, and the slot that the frame must be stored in; None if in none.
        """
        instances, tracks = self._instances(result)
        slot = self._slot_for(result.key)
        if self._recorder is not None:
            with self.timed("record"):
                self._recorder.add(instances, tracks)
        self._position += 1
        return instances, slot

    def skip(self) -> None:
        """Pass over a frame of the video that cannot be read: no track has a mask there."""
        self._position += 1

    def finish(self) -> list[Track]:
        """The tracks of the video up to here: class, score, and a mask or None for every frame.

        Raises:
            VisoloError: if the session does not record.
        """
        if self._recorder is None:
            raise VisoloError("this session was opened with record=False and has kept no masks")
        return self._recorder.tracks(self._position, self._chain.input_size, self._mask_size)

    def device_ms(self) -> dict[str, float]:
        """Milliseconds that graphs and copies of the last step took, by the clock of the device and
        by stage; waits for the device. Empty where the engines work on the host's clock."""
        return self._chain.device_ms()

    @property
    def frames(self) -> int:
        """Frames of the video so far, skipped ones included."""
        return self._position

    @property
    def tracks_begun(self) -> int:
        """Tracks since the beginning of the video."""
        return self._associator.tracks_begun

    @property
    def _mask_size(self) -> tuple[int, int]:
        return self._output_size or self._frame_size or self._chain.input_size

    def _check_frame(self, frame: ResizedFrame) -> None:
        size, made, wanted = frame.size, frame.image.shape[:2], self._chain.input_size
        if made != wanted:
            raise VisoloError(
                f"a frame was resized ahead to {made[1]}x{made[0]}, "
                f"but this model takes {wanted[1]}x{wanted[0]}"
            )
        if self._frame_size not in (None, size):
            before = self._frame_size or size
            raise VisoloError(
                f"frame {self._position} is {size[1]}x{size[0]}, but the video began with "
                f"{before[1]}x{before[0]}: all frames of a video must have one size"
            )
        self._frame_size = size

    def _valid(self) -> NDArray[np.bool_]:
        valid = np.zeros(self._chain.slots + 1, bool)
        valid[: len(self._slots)] = [stored != memory_policy.EMPTY for stored in self._slots]
        valid[-1] = not valid.any()
        return valid

    def _instances(self, result: FrameResult) -> tuple[Instances, list[TrackState]]:
        with self.timed("choose"), one_thread():
            keys = [key for key in (self._previous_key, self._kept_key) if key is not None]
            weight = grid_weight(result.query, keys)
            candidates = choose_cells(result.scores, weight, self._inference.score_threshold)
        decoded = None
        if len(candidates):
            with self.timed("decode graph"):
                decoded = self._chain.decode(candidates.cell)
        with self.timed("select"):
            if decoded is None:
                chosen, score = np.empty(0, np.int64), np.empty(0, np.float32)
                masks = np.empty((0, *self._chain.input_size), np.uint8)
            else:
                chosen, score = select_instances(
                    candidates,
                    decoded.area,
                    decoded.probability_sum,
                    decoded.intersection,
                    self._inference,
                )
                masks = decoded.masks[chosen]
            cell = candidates.cell[chosen]
        with self.timed("associate"), one_thread():
            tracks = self._associator.step(cell, result.query, result.key, result.scores)
            instances = self._describe(tracks, candidates.label[chosen], score, cell, masks)
        return instances, tracks

    def _describe(
        self,
        tracks: list[TrackState],
        label: Ints,
        score: Floats,
        cell: Ints,
        masks: NDArray[np.uint8],
    ) -> Instances:
        classes = [track.classify() for track in tracks]
        return Instances(
            frame=self._position,
            size=self._mask_size,
            track_id=np.array([track.track_id for track in tracks], np.int64),
            label=label,
            score=score,
            track_label=np.array([label for label, _ in classes], np.int64),
            track_score=np.array([score for _, score in classes], np.float32),
            cell=cell,
            input_masks=masks,
        )

    def _slot_for(self, key: Floats) -> int | None:
        """Where to remember the frame that was just computed."""
        frame, every = self._computed, self._inference.keep_every
        slot = None
        if self._slots:
            self._slots, slot = memory_policy.store(self._slots, frame, every)
        if frame > 0 and (frame - 1) % every == 0:
            # For the next frame, the frame before this one is two back: the newest kept.
            self._kept_key = self._previous_key
        self._previous_key = key.copy()
        self._computed += 1
        return slot

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time that a block takes to a stage of this step."""
        begin = time.perf_counter()
        yield
        self.stage_ms[stage] += (time.perf_counter() - begin) * 1e3
