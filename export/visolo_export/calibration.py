"""Records the inputs of the graphs on the frames that int8 ranges are calibrated on.

The memory that the frame graph reads is what the network itself stored while it ran: random numbers
in its place would give ranges that no video has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import onnxruntime

from visolo_core.contract import GraphName
from visolo_core.errors import VisoloError
from visolo_runtime.engines.buffers import STAGE_OUTPUTS, Array, FrameInput, Storage
from visolo_runtime.engines.engine import Engines
from visolo_runtime.engines.host_buffers import HostBuffers
from visolo_runtime.session.loading import Model
from visolo_runtime.session.session import Session
from visolo_runtime.sources.clip import Clip
from visolo_runtime.sources.opening import open_source
from visolo_runtime.sources.standard_input import pipe_id
from visolo_runtime.video.frames import Picture

LEAST_FRAMES = 8
"""Fewer frames show neither the variety of a video nor a memory that fills up."""


class _RecordingBuffers(HostBuffers):
    """Records the inputs of the frame and memory graphs."""

    def __init__(self, engines: Engines) -> None:
        super().__init__(engines, rows=1)
        self.feeds: dict[GraphName, list[dict[str, Array]]] = {"frame": [], "memory": []}

    def submit(self, rows: range, inputs: Sequence[FrameInput]) -> None:
        super().submit(rows, inputs)
        names = self._contract["frame"].names("inputs")
        self.feeds["frame"].append({name: self.read(name).copy() for name in names})

    def store(self, rows: range, storage: Sequence[Storage]) -> None:
        self.feeds["memory"].append({"features": self.read("features").copy()})
        super().store(rows, storage)


class MaskFeeds:
    """Inputs of the mask graph, computed again by the frame graph whenever they are iterated over:
    a hundred of them would take gigabytes.

    Args:
        frame_graph: the ONNX file of the float32 frame graph.
        feeds: inputs of the frame graph.
    """

    def __init__(self, frame_graph: Path, feeds: Sequence[Mapping[str, Array]]) -> None:
        self._file, self._feeds = frame_graph, feeds

    def __iter__(self) -> Iterator[dict[str, Array]]:
        session = onnxruntime.InferenceSession(str(self._file), providers=["CPUExecutionProvider"])
        for feed in self._feeds:
            stages = session.run(list(STAGE_OUTPUTS), dict(feed))
            yield dict(zip(STAGE_OUTPUTS, stages, strict=True))


def record_feeds(model: Model, source: str, frames: int) -> dict[GraphName, list[dict[str, Array]]]:
    """Run a model over a video, a folder or a data set, and record the inputs of its graphs.

    Args:
        model: in float32, on a backend that works in host memory.
        source: as for ``visolo run``; of several clips, each contributes an equal share.
        frames: number of frames to record in all.

    Returns:
        for the frame and the memory graph: the inputs in each run, by name.

    Raises:
        VisoloError: if the source has fewer than ``LEAST_FRAMES`` readable frames.
    """
    recorded: dict[GraphName, list[dict[str, Array]]] = {"frame": [], "memory": []}
    for pictures in _shares(open_source(source), frames):
        buffers = _RecordingBuffers(model.engines)
        session = Session(buffers, model.stream_options(record=False))
        for picture in pictures:
            session.step(picture)
        for graph, feeds in buffers.feeds.items():
            recorded[graph] += feeds
    _check_count(source, len(recorded["frame"]))
    return recorded


def check_frames(source: str, frames: int) -> None:
    """Check that a source has enough frames for :func:`record_feeds`, before anything is exported.

    A pipe and a live source are left alone, since their frames come once.

    Args:
        source: as for ``visolo run``.
        frames: number of frames to record in all.

    Raises:
        VisoloError: if it has fewer than ``LEAST_FRAMES`` readable frames, or cannot be opened.
    """
    if pipe_id(source) is not None:
        return
    clips = open_source(source)
    if not any(clip.live or clip.once for clip in clips):
        readable = (1 for pictures in _shares(clips, frames) for _ in pictures)
        _check_count(source, sum(islice(readable, LEAST_FRAMES)))


def _shares(clips: Sequence[Clip], frames: int) -> Iterator[Iterator[Picture]]:
    """The first frames of each clip, as many of one as of another, so many in all."""
    share = max(2, -(-frames // len(clips)))
    return (islice(clip.pictures(), share) for clip in clips[: -(-frames // share)])


def _check_count(source: str, count: int) -> None:
    if count < LEAST_FRAMES:
        raise VisoloError(
            f"'{source}' has {count} frames that can be read: calibration needs at least "
            f"{LEAST_FRAMES}, and a hundred different ones are better"
        )
