"""The source of a measurement, which must be readable once per round."""

from __future__ import annotations

from visolo_core.errors import VisoloError
from visolo_runtime.bench import FrameSource
from visolo_runtime.video.sample_clip import sample_frames
from visolo_runtime.video.sources import open_source


def frame_source(source: str | None, count: int) -> tuple[FrameSource, str]:
    """A function that opens a source again from its start, and the name of the source.

    Args:
        source: a video, a folder or a json file; None draws a clip of 640x360.
        count: number of frames of the drawn clip.

    Raises:
        VisoloError: if the source is live, and cannot be read twice.
    """
    if source is None:
        frames = list(sample_frames(count))  # drawing costs more than small networks do
        return lambda: frames, "generated clip, not decoded"
    clip = open_source(source)[0]
    if clip.live:
        raise VisoloError(f"'{source}' is live and cannot be read twice: name a file or a folder")
    return clip.frames, clip.name
