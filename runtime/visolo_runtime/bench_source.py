"""The source of a measurement, which must be readable once per round."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from visolo_core.errors import VisoloError
from visolo_runtime.bench import FrameSource
from visolo_runtime.sources.clip import Clip, Skipped, SourceFrame
from visolo_runtime.sources.opening import open_source
from visolo_runtime.sources.standard_input import pipe_id
from visolo_runtime.video.frames import Picture
from visolo_runtime.video.sample_clip import sample_frames


def frame_source(source: str | None, count: int, idle: bool = False) -> tuple[FrameSource, str]:
    """A function that opens a source again from its start, and the name of the source.

    Args:
        source: a video, a folder or a json file; None draws a clip of 640x360.
        count: number of frames of the drawn clip.
        idle: take black frames of 640x360 instead of a source: nothing is found in them.

    Raises:
        VisoloError: if the source is live or a pipe, and cannot be read twice; if there is one, but
            black frames are to be measured.
    """
    if idle:
        if source is not None:
            raise VisoloError(f"--idle measures black frames: leave '{source}' out")
        black = [np.zeros((360, 640, 3), np.uint8)] * count
        return lambda: black, "black frames, not decoded"
    if source is None:
        frames = list(sample_frames(count))  # drawing costs more than small networks do
        return lambda: frames, "generated clip, not decoded"
    if pipe_id(source):
        raise VisoloError(f"'{source}' is a pipe and cannot be read twice: name a file or a folder")
    clip = open_source(source)[0]
    if clip.live:
        raise VisoloError(f"'{source}' is live and cannot be read twice: name a file or a folder")
    return lambda: _untimed(clip), clip.name


def _untimed(clip: Clip) -> Iterator[Picture | Skipped]:
    for frame in clip.frames():
        if isinstance(frame, SourceFrame):
            yield frame.picture
        elif isinstance(frame, Skipped):
            yield frame
