"""Video files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from visolo_core.errors import VisoloError
from visolo_runtime.sources.clip import Clip, Notice, Skipped, SourceFrame
from visolo_runtime.sources.decoding import decode, frame_rate, open_container, video_stream


def clip_of_file(path: Path, deinterlace: bool = False) -> Clip:
    """A video file.

    Args:
        path: of the file.
        deinterlace: as for ``decode``.

    Raises:
        VisoloError: if it is not a video.
    """
    # Without "file:" FFmpeg takes a name with a colon for an address.
    address = f"file:{path}"
    with open_container(address) as container:
        fps, length = frame_rate(container), video_stream(container).frames or None
        audio = path if container.streams.audio else None
    return Clip(
        1,
        path.stem,
        lambda: decode(address, deinterlace=deinterlace),
        fps,
        length,
        files=(path,),
        audio=audio,
    )


def clip_among_others(path: Path, deinterlace: bool = False) -> Clip:
    """A video that may be unreadable: then it fails when it runs, and the others do not."""
    try:
        return clip_of_file(path, deinterlace)
    except VisoloError as error:
        problem = error

    def frames() -> Iterator[SourceFrame | Skipped | Notice]:
        raise problem

    return Clip(1, path.stem, frames, files=(path,))
