"""Video files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from visolo_core.errors import VisoloError
from visolo_runtime.sources.clip import Clip, Skipped, SourceFrame
from visolo_runtime.sources.decoding import decode, frame_rate, open_container


def clip_of_file(path: Path) -> Clip:
    """A video file.

    Raises:
        VisoloError: if it is not a video.
    """
    # Without "file:" FFmpeg takes a name with a colon for an address.
    address = f"file:{path}"
    with open_container(address) as container:
        fps, length = frame_rate(container), container.streams.video[0].frames or None
    return Clip(1, path.stem, lambda: decode(address), fps, length, files=(path,))


def clip_in_folder(path: Path) -> Clip:
    """A video that may be unreadable: that is its own error when it runs, not the folder's."""
    try:
        return clip_of_file(path)
    except VisoloError as error:
        problem = error

    def frames() -> Iterator[SourceFrame | Skipped]:
        raise problem

    return Clip(1, path.stem, frames, files=(path,))
