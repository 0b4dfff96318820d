"""The videos that a bulk run is given: files, folders, patterns, data sets, and addresses."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from visolo_core.errors import VisoloError
from visolo_runtime.bulk.keys import content_of
from visolo_runtime.bulk.plan import BulkVideo
from visolo_runtime.bulk.stores import name_of, videos_at
from visolo_runtime.sources.addresses import file_at, scheme_of, without_secrets
from visolo_runtime.sources.data_sets import clips_of_data_set
from visolo_runtime.sources.frame_names import is_pattern, is_picture, is_video, matching
from visolo_runtime.sources.pictures import natural_order

_LIVE = ("rtsp", "rtsps", "rtmp", "rtmps", "srt", "rtp", "udp", "tcp", "mms")
_READ_AT_ONCE = 4


def videos_of(inputs: Sequence[str], images: Path | None = None) -> list[BulkVideo]:
    """The videos of all inputs in their order, without their content's hash.

    Args:
        inputs: each a video file; a folder of videos, or of pictures that are one video; a pattern;
            a json file in YouTube-VIS format, whose videos are taken; or an address of fsspec.
        images: the folder of a json file's frames; None means ``JPEGImages`` beside it.

    Raises:
        VisoloError: if one of them does not exist, is empty or live.
    """
    videos = [video for each in inputs for video in _videos(each, images)]
    distinct = {(video.shown, video.video_id, video.files): video for video in videos}
    return list(distinct.values())


def with_content(videos: Sequence[BulkVideo]) -> Iterator[BulkVideo]:
    """The videos with the hash of their content, in their order; every local file is read.

    Raises:
        VisoloError: if one cannot be read.
    """
    with ThreadPoolExecutor(min(_READ_AT_ONCE, os.cpu_count() or 1)) as pool:
        yield from pool.map(_with_content, videos)


def _with_content(video: BulkVideo) -> BulkVideo:
    return replace(video, content=video.content or content_of(video.files))


def _videos(source: str, images: Path | None) -> list[BulkVideo]:
    scheme = scheme_of(source)
    if scheme == "file":
        return _videos(str(file_at(source)), images)
    if scheme in _LIVE:
        raise VisoloError(
            f"'{without_secrets(source)}' is live and has no end: visolo run tracks it"
        )
    if scheme is not None:
        return [_at(address, state) for address, state in videos_at(source)]
    path = Path(source)
    if path.is_dir():
        return _several(f"folder '{source}'", [each for each in path.iterdir() if each.is_file()])
    if path.is_file():
        return _data_set(path, images) if path.suffix.lower() == ".json" else [_file(path)]
    if is_pattern(source):
        return _several(f"pattern '{source}'", _matching(source))
    raise VisoloError(f"there is no video, folder or json file '{source}'")


def _matching(source: str) -> list[Path]:
    if "**" not in source:
        return matching(source)
    names = glob.glob(source, recursive=True)  # noqa: PTH207, Path.glob refuses some patterns
    return [file for name in names if (file := Path(name)).is_file()]


def _several(where: str, files: list[Path]) -> list[BulkVideo]:
    files = sorted(files, key=lambda path: natural_order(str(path)))
    pictures, videos = list(filter(is_picture, files)), list(filter(is_video, files))
    if pictures and videos:
        raise VisoloError(
            f"{where} holds both images ({pictures[0].name}) and videos ({videos[0].name}): choose "
            f"some of them with a pattern such as '{videos[0].parent}/*{videos[0].suffix}'"
        )
    if pictures:
        folder = pictures[0].absolute().parent
        names = tuple(str(each.absolute()) for each in pictures)
        return [BulkVideo("pictures", str(folder), folder.name, names)]
    if not videos:
        raise VisoloError(f"{where} holds no images and no videos: name a folder of videos")
    return [_file(video) for video in videos]


def _file(path: Path) -> BulkVideo:
    if is_picture(path):
        raise VisoloError(f"'{path}' is a picture: name the folder of a video's frames")
    file = str(path.absolute())
    return BulkVideo("file", file, path.stem, (file,))


def _at(address: str, state: str) -> BulkVideo:
    shown = without_secrets(address)
    name = Path(name_of(address)).stem
    return BulkVideo("address", shown, name, (address,), content=f"{shown} {state}")


def _data_set(path: Path, images: Path | None) -> list[BulkVideo]:
    clips = clips_of_data_set(path, (images or path.parent / "JPEGImages").absolute())
    return [
        BulkVideo(
            "data set",
            f"{path.absolute()}#{clip.video_id}",
            clip.name,
            tuple(map(str, clip.files[1:])),
            clip.video_id,
            clip.size,
            clip.frame_names,
        )
        for clip in clips
    ]
