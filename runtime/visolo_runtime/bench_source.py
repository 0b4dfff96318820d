"""What is measured on: a source that can be replayed, once per round."""

from __future__ import annotations

from visolo_core.errors import VisoloError
from visolo_runtime.bench import FrameSource
from visolo_runtime.video.sample_clip import sample_frames
from visolo_runtime.video.sources import open_source


def frame_source(source: str | None, count: int) -> tuple[FrameSource, str]:
    """What replays a source, and its name.

    Args:
        source: a video, a folder or a json; None draws a clip of 640x360.
        count: frames of the drawn clip.

    Raises:
        VisoloError: if it is live, and cannot be replayed.
    """
    if source is None:
        kept = list(sample_frames(count))  # drawing costs more than small networks do
        return lambda: kept, "generated clip, not decoded"
    clip = open_source(source)[0]
    if clip.live:
        raise VisoloError(f"'{source}' is live and cannot be replayed: name a file or a folder")
    return clip.frames, clip.name
