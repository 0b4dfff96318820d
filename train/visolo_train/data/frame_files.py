"""Frames of a video as pictures, to be annotated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PIL import Image

from visolo_core.cvat import frame_name
from visolo_core.errors import VisoloError
from visolo_core.files import replaced_folder
from visolo_runtime.sources.clip import Clip, Skipped, SourceFrame


def write_frames(
    clip: Clip,
    folder: Path,
    every: int = 1,
    progress: Callable[[int], None] = lambda _: None,
) -> tuple[int, list[str]]:
    """Write every ``every``-th frame of a recording as a PNG.

    Files are named as CVAT names the frames of a video, by their numbers in it:
    ``frame_000000.png`` and so on.

    Args:
        clip: the recording.
        folder: of the pictures; it must not exist, and is created when everything is done.
        every: 1 for all frames.
        progress: called with the number of frames that were read.

    Returns:
        how many were written, and what could not be read, a sentence for each.

    Raises:
        VisoloError: if the clip is live or has no frame, or the folder exists or cannot be written.
    """
    if clip.live:
        raise VisoloError(f"'{clip.name}' is live and has no end: record it first")
    if folder.exists():
        raise VisoloError(f"'{folder}' exists already: name a new folder")
    written, lost, number = 0, list[str](), 0
    with replaced_folder(folder) as work:
        for event in clip.frames():
            if not isinstance(event, (SourceFrame, Skipped)):
                continue
            if number % every == 0:
                if isinstance(event, Skipped):
                    lost.append(event.reason)
                else:
                    picture = Image.fromarray(event.picture)
                    # Quick rather than small: pictures to annotate are read more often than kept.
                    picture.save(work / f"{frame_name(number)}.png", compress_level=1)
                    written += 1
            number += 1
            progress(number)
        if not written:
            raise VisoloError(f"'{clip.name}' has no frame that can be read")
    return written, lost
