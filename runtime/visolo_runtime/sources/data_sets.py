"""The videos of a data set in YouTube-VIS or COCO format."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from visolo_core.errors import VisoloError
from visolo_core.files import inside, read_json
from visolo_runtime.sources.clip import Clip
from visolo_runtime.sources.pictures import frames_of_pictures


def clips_of_data_set(path: Path, images: Path) -> list[Clip]:
    """A clip of each video.

    Args:
        path: the json file; the images of one in COCO's format become videos of one frame.
        images: folder of the frames.

    Raises:
        VisoloError: if it is in another format or a frame is missing.
    """
    document = read_json(path)
    try:
        if "videos" not in document and "images" in document:
            listed = [{**image, "file_names": [image["file_name"]]} for image in document["images"]]
        else:
            listed = document["videos"]
        clips = [_listed_clip(video, images) for video in listed]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise VisoloError(
            f"'{path}' is not in YouTube-VIS format: it needs 'videos', each with an integer 'id', "
            f"'file_names', 'height' and 'width' ({type(error).__name__}: {error})"
        ) from error
    if not clips:
        raise VisoloError(f"'{path}' lists no videos: name a file with 'videos' or 'images'")
    if len({clip.video_id for clip in clips}) != len(clips):
        raise VisoloError(f"'{path}' uses a video id twice: give every video its own id")
    return [replace(clip, files=(path, *clip.files)) for clip in clips]


def _listed_clip(video: dict[str, Any], images: Path) -> Clip:
    video_id, size = int(video["id"]), (int(video["height"]), int(video["width"]))
    files = [inside(images, str(name)) for name in video["file_names"]]
    if not files:
        raise VisoloError(f"video {video_id} lists no frames")
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise VisoloError(
            f"video {video_id}: there is no frame '{missing[0]}': name the folder with --images"
        )
    first = Path(video["file_names"][0])
    name = str(first.parent if len(files) > 1 else first)
    names = tuple(str(name) for name in video["file_names"])
    return Clip(
        video_id,
        name,
        lambda: frames_of_pictures(files, size),
        length=len(files),
        size=size,
        frame_names=names,
        files=tuple(files),
    )
