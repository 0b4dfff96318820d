"""Opening sources: a video file, a folder of frames, a camera, a stream, a data set.

Every source is a list of clips; a data set and a folder of videos have several.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from visolo_core.errors import VisoloError
from visolo_runtime.sources.clip import Clip
from visolo_runtime.sources.data_sets import clips_of_data_set
from visolo_runtime.sources.frame_names import is_pattern, is_picture, is_video, matching
from visolo_runtime.sources.live import clip_of_camera, clip_of_camera_at, clip_of_stream
from visolo_runtime.sources.pictures import clip_of_pictures, natural_order
from visolo_runtime.sources.standard_input import (
    STANDARD_INPUT,
    clip_of_standard_input,
    clip_opened_once,
    pipe_id,
    state_of,
)
from visolo_runtime.sources.video_files import clip_in_folder, clip_of_file

_ADDRESS = re.compile(r"[a-z][a-z0-9+]*://", re.IGNORECASE)


def open_source(source: str, images: Path | None = None) -> list[Clip]:
    """The clips of a source.

    Args:
        source: a video file; a folder of frames, or of videos, each a clip; frames or videos by a
            pattern such as ``frames/%05d.png`` or ``videos/*.mp4``; ``-`` for standard input, or a
            FIFO; a camera's index or device; an address such as ``rtsp://...``; or a json file in
            YouTube-VIS format, or in COCO's, whose images become videos of one frame. A file that
            exists is taken for that file whatever its name is.
        images: the folder of a json file's frames; None means ``JPEGImages`` beside it.

    Raises:
        VisoloError: if the source does not exist, is empty or cannot be read.
    """
    path = Path(source)
    if source == STANDARD_INPUT:
        return [clip_of_standard_input()]
    if (state := state_of(source)) is not None:
        return _existing(path, state.st_mode, images)
    if _ADDRESS.match(source):
        return [clip_of_stream(source)]
    if re.fullmatch(r"[0-9]{1,4}", source):
        return [clip_of_camera(int(source))]
    if is_pattern(source):
        return _several(f"pattern '{source}'", matching(source))
    raise VisoloError(f"there is no video, folder or json file '{source}'")


def open_sources(sources: Sequence[str], images: Path | None = None) -> list[Clip]:
    """The clips of one or more sources; those of several sources are renumbered from 1.

    Several pictures, as a shell makes them of ``*.png``, are the frames of one clip.

    Args:
        sources: each as for :func:`open_source`.
        images: the folder of a json file's frames.

    Raises:
        VisoloError: if one of them cannot be opened.
    """
    if len(sources) == 1:
        return open_source(sources[0], images)
    pictures = [Path(source) for source in sources if is_picture(Path(source))]
    if len(pictures) == len(sources) and all(map(os.path.isfile, sources)):
        return [clip_of_pictures(pictures)]
    pipes = [pipe for source in sources if (pipe := pipe_id(source))]
    if len(set(pipes)) != len(pipes):
        raise VisoloError(
            "a pipe can be read only once, but two sources are the same: name it once"
        )
    clips = [clip for source in sources for clip in open_source(source, images)]
    return [replace(clip, video_id=number) for number, clip in enumerate(clips, start=1)]


def _existing(path: Path, mode: int, images: Path | None) -> list[Clip]:
    if stat.S_ISDIR(mode):
        return _several(f"folder '{path}'", [each for each in path.iterdir() if each.is_file()])
    if stat.S_ISFIFO(mode):
        return [clip_opened_once(path, path.name, path)]
    if stat.S_ISCHR(mode):
        return [clip_of_camera_at(path)]
    if path.suffix.lower() == ".json":
        return clips_of_data_set(path, images or path.parent / "JPEGImages")
    if is_picture(path):  # FFmpeg would look for numbers in its name
        return [replace(clip_of_pictures([path]), name=path.stem)]
    return [clip_of_file(path)]


def _several(where: str, files: list[Path]) -> list[Clip]:
    """One clip of pictures, or a clip of each video."""
    files = sorted(files, key=lambda path: natural_order(str(path)))
    pictures = [file for file in files if is_picture(file)]
    videos = [file for file in files if is_video(file)]
    if pictures and videos:
        raise VisoloError(
            f"{where} holds both images ({pictures[0].name}) and videos ({videos[0].name}): choose "
            f"some of them with a pattern such as '{videos[0].parent}/*{videos[0].suffix}'"
        )
    if pictures:
        return [clip_of_pictures(pictures)]
    if not videos:
        raise VisoloError(f"{where} holds no images and no videos: name a folder of frames")
    return [
        replace(clip_in_folder(video), video_id=number)
        for number, video in enumerate(videos, start=1)
    ]
