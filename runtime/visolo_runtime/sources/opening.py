"""Opening sources: a video file, a folder of frames, a camera, a stream, a data set.

Every source is a list of clips; a data set and a folder of videos have several.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from visolo_core.errors import VisoloError
from visolo_runtime.sources.addresses import file_at, scheme_of
from visolo_runtime.sources.clip import Clip
from visolo_runtime.sources.data_sets import clips_of_data_set
from visolo_runtime.sources.frame_names import is_pattern, is_picture, is_video, matching
from visolo_runtime.sources.live import (
    clip_of_camera,
    clip_of_camera_at,
    clip_of_stream,
    require_camera,
)
from visolo_runtime.sources.pictures import clip_of_pictures, natural_order
from visolo_runtime.sources.recordings import Inspection, clip_at, inspect_address
from visolo_runtime.sources.source_options import DEFAULTS, SourceOptions
from visolo_runtime.sources.standard_input import (
    STANDARD_INPUT,
    clip_of_standard_input,
    clip_opened_once,
    pipe_id,
    state_of,
)
from visolo_runtime.sources.video_files import clip_among_others, clip_of_file

_CAMERA = re.compile(r"[0-9]{1,4}")
_MAY_BE_RECORDINGS = ("http", "https")
_INSPECTED_AT_ONCE = 16
_AsClip = Callable[[Path, bool], Clip]


def open_source(
    source: str, images: Path | None = None, options: SourceOptions = DEFAULTS
) -> list[Clip]:
    """The clips of a source.

    A live source is not opened here, but a camera's number must exist.

    Args:
        source: a video file; a folder of frames, or of videos, each a clip; frames or videos by a
            pattern such as ``frames/%05d.png`` or ``videos/*.mp4``; ``-`` for standard input, or a
            FIFO; a camera's index or device; an address such as ``rtsp://...``; or a json file in
            YouTube-VIS format, or in COCO's, whose images become videos of one frame. A file that
            exists is taken for that file whatever its name is. An address is a recording if it is a
            file, if an HTTP server states its length, or if its playlist has an end; otherwise it
            is live.
        images: the folder of a json file's frames; None means ``JPEGImages`` beside it.
        options: what sources are taken for, and what happens when they are lost.

    Raises:
        VisoloError: if the source does not exist, is empty or cannot be read.
    """
    if _CAMERA.fullmatch(source) and state_of(source) is None:
        require_camera(int(source))
    (clips,) = _open_all([source], images, options)
    return clips


def open_sources(
    sources: Sequence[str], images: Path | None = None, options: SourceOptions = DEFAULTS
) -> list[Clip]:
    """The clips of one or more sources; those of several sources are renumbered from 1.

    Several pictures, as a shell makes them of ``*.png``, are the frames of one clip. Live sources
    are not opened here: one of several that is offline, or a camera that is not plugged in, does
    not stop the others.

    Args:
        sources: each as for :func:`open_source`.
        images: the folder of a json file's frames.
        options: what sources are taken for, and what happens when they are lost.

    Raises:
        VisoloError: if one of them cannot be opened.
    """
    if len(sources) == 1:
        return open_source(sources[0], images, options)
    pictures = [Path(source) for source in sources if is_picture(Path(source))]
    if len(pictures) == len(sources) and all(map(os.path.isfile, sources)):
        return [clip_of_pictures(pictures)]
    pipes = [pipe for source in sources if (pipe := pipe_id(source))]
    if len(set(pipes)) != len(pipes):
        raise VisoloError(
            "a pipe can be read only once, but two sources are the same: name it once"
        )
    clips = [clip for each in _open_all(sources, images, options) for clip in each]
    return [replace(clip, video_id=number) for number, clip in enumerate(clips, start=1)]


def _open_all(
    sources: Sequence[str], images: Path | None, options: SourceOptions
) -> list[list[Clip]]:
    """The clips of each source. Of several, one that is no video fails when it is run."""
    inspections = _inspect_all(sources, options)
    as_clip = clip_of_file if len(sources) == 1 else clip_among_others
    return [_open(source, images, options, inspections, as_clip) for source in sources]


def _inspect_all(sources: Sequence[str], options: SourceOptions) -> dict[str, Inspection]:
    """What the addresses among them are that may be recordings or live; all are asked together."""
    unknown = [
        source
        for source in dict.fromkeys(sources)
        if options.source_type != "live"
        and scheme_of(source) in _MAY_BE_RECORDINGS
        and state_of(source) is None
    ]
    if not unknown:
        return {}
    with ThreadPoolExecutor(_INSPECTED_AT_ONCE) as pool:
        answers = pool.map(lambda each: inspect_address(each, options), unknown)
        return dict(zip(unknown, answers, strict=True))


def _open(
    source: str,
    images: Path | None,
    options: SourceOptions,
    inspections: dict[str, Inspection],
    as_clip: _AsClip,
) -> list[Clip]:
    path = Path(source)
    if source == STANDARD_INPUT:
        return [_as_asked(clip_of_standard_input(options.deinterlace), options)]
    if (state := state_of(source)) is not None:
        return _existing(path, state.st_mode, images, options, as_clip)
    scheme = scheme_of(source)
    if scheme == "file":
        return _open(str(file_at(source)), images, options, inspections, as_clip)
    if scheme is not None:
        return [_at_address(source, options, inspections.get(source, Inspection(live=True)))]
    if _CAMERA.fullmatch(source):
        return [clip_of_camera(int(source), options)]
    if is_pattern(source):
        return _several(f"pattern '{source}'", matching(source), options)
    raise VisoloError(f"there is no video, folder or json file '{source}'")


def _at_address(address: str, options: SourceOptions, inspection: Inspection) -> Clip:
    live = inspection.live if options.source_type == "auto" else options.source_type == "live"
    return clip_of_stream(address, options) if live else clip_at(address, inspection, options)


def _as_asked(clip: Clip, options: SourceOptions) -> Clip:
    """A pipe may be live or not: only its user knows."""
    return replace(clip, live=options.source_type == "live")


def _existing(
    path: Path, mode: int, images: Path | None, options: SourceOptions, as_clip: _AsClip
) -> list[Clip]:
    if stat.S_ISDIR(mode):
        files = [each for each in path.iterdir() if each.is_file()]
        return _several(f"folder '{path}'", files, options)
    if stat.S_ISFIFO(mode):
        return [_as_asked(clip_opened_once(path, path.name, path, options.deinterlace), options)]
    if stat.S_ISCHR(mode):
        return [clip_of_camera_at(path, options)]
    if path.suffix.lower() == ".json":
        return clips_of_data_set(path, images or path.parent / "JPEGImages")
    if is_picture(path):  # FFmpeg would look for numbers in its name
        return [replace(clip_of_pictures([path]), name=path.stem)]
    return [as_clip(path, options.deinterlace)]


def _several(where: str, files: list[Path], options: SourceOptions) -> list[Clip]:
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
        replace(clip_among_others(video, options.deinterlace), video_id=number)
        for number, video in enumerate(videos, start=1)
    ]
