"""Frames that int8 ranges are found with, and what the graphs are fed while they run.

The memory that the frame graph reads is what the network itself has stored on the way: random
numbers in its place would give ranges that no video has.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visolo_core.contract import GraphName
from visolo_core.errors import VisoloError
from visolo_runtime.chain import FrameResult, StreamEngines, WrappedChain
from visolo_runtime.engine import Array
from visolo_runtime.model import Model
from visolo_runtime.session import Session
from visolo_runtime.sources import Clip, Skipped, open_source

LEAST_FRAMES = 8
"""Fewer say nothing of what a video may show, nor of a memory that fills up."""


class _Recorder(WrappedChain):
    """Notes what goes into the frame and memory graphs."""

    def __init__(self, engines: StreamEngines) -> None:
        super().__init__(engines.chain())
        self.feeds: dict[GraphName, list[dict[str, Array]]] = {"frame": [], "memory": []}

    def frame(self, image: NDArray[np.uint8], valid: NDArray[np.bool_]) -> FrameResult:
        stored = {name: self.read(name).copy() for name in ("memory_key", "memory_value")}
        self.feeds["frame"].append(
            {"image": image[None].copy(), **stored, "memory_valid": valid[None].copy()}
        )
        return super().frame(image, valid)

    def store(self, slot: int) -> None:
        self.feeds["memory"].append({"features": self.read("features").copy()})
        super().store(slot)


def record_feeds(model: Model, source: str, frames: int) -> dict[GraphName, list[dict[str, Array]]]:
    """Run a model over a video, a folder or a data set, and keep what its graphs were fed.

    Args:
        model: in float32.
        source: as for ``visolo run``; of several clips each gives its share.
        frames: to keep, spread over the source.

    Raises:
        VisoloError: if the source has fewer than ``LEAST_FRAMES`` frames that can be read.
    """
    clips = open_source(source)
    share = max(2, -(-frames // len(clips)))
    kept: dict[GraphName, list[dict[str, Array]]] = {"frame": [], "memory": []}
    for clip in clips[: -(-frames // share)]:
        recorder = _Recorder(model.engines)
        session = Session(recorder, model.inference, record=False)
        for frame in islice(_readable(clip), share):
            session.step(frame)
        for graph, feeds in recorder.feeds.items():
            kept[graph] += feeds
    if len(kept["frame"]) < LEAST_FRAMES:
        raise VisoloError(
            f"'{source}' has {len(kept['frame'])} frames that can be read: calibration needs "
            f"{LEAST_FRAMES} at least, and a hundred different ones are better"
        )
    return kept


def _readable(clip: Clip) -> Iterator[Any]:
    return (frame for frame in clip.frames() if not isinstance(frame, Skipped))
