"""Where frames come from: a video file, a folder of frames, a camera, a stream, a data set.

Every source is a list of clips; only a data set has more than one. A clip yields its frames in
order, and a ``Skipped`` in place of each frame that cannot be read.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from visolo_core.errors import VisoloError
from visolo_core.files import inside, read_json
from visolo_runtime.video.frames import Picture

DEFAULT_FPS = Fraction(30)
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
_OPEN_TIMEOUT_S, _READ_TIMEOUT_S = 10.0, 10.0
_ADDRESS = re.compile(r"[a-z][a-z0-9+]*://", re.IGNORECASE)


@dataclass(frozen=True)
class Skipped:
    """Stands for a frame that cannot be read."""

    reason: str


@dataclass(frozen=True)
class Clip:
    """One video."""

    video_id: int
    name: str
    frames: Callable[[], Iterator[Picture | Skipped]]
    """Opens the clip and yields uint8 [H, W, 3] RGB frames."""
    fps: Fraction = DEFAULT_FPS
    length: int | None = None
    """Number of frames, if known in advance."""
    size: tuple[int, int] | None = None
    """Height and width that the results must have, if the source states them."""
    frame_names: tuple[str, ...] = ()
    """Names of the frames, if they are files."""
    live: bool = False
    """Whether frames arrive in real time, without an end."""


def open_source(source: str, images: Path | None = None) -> list[Clip]:
    """The clips of a source.

    Args:
        source: a video file, a folder of frames, a camera's index, an address such as
            ``rtsp://...``, or a json file in YouTube-VIS format, or in COCO's, whose images become
            videos of one frame.
        images: the folder of a json file's frames; None means ``JPEGImages`` beside it.

    Raises:
        VisoloError: if the source does not exist, is empty or cannot be read.
    """
    path = Path(source)
    if _ADDRESS.match(source):
        return [_stream(source)]
    if re.fullmatch(r"[0-9]{1,4}", source) and not path.exists():
        return [_camera(int(source))]
    if path.suffix.lower() == ".json":
        return _data_set(path, images or path.parent / "JPEGImages")
    if path.is_dir():
        return [_folder(path)]
    if not path.exists():
        raise VisoloError(f"there is no video, folder or json file '{source}'")
    return [_video_file(path)]


def open_sources(sources: Sequence[str], images: Path | None = None) -> list[Clip]:
    """The clips of one or more sources; those of several sources are renumbered from 1.

    Args:
        sources: each as for :func:`open_source`.
        images: the folder of a json file's frames.

    Raises:
        VisoloError: if one of them cannot be opened.
    """
    clips = [clip for source in sources for clip in open_source(source, images)]
    if len(sources) == 1:
        return clips
    return [replace(clip, video_id=number) for number, clip in enumerate(clips, start=1)]


# ------------------------------------------------------------------------- image files


def read_image(path: Path) -> Picture | Skipped:
    """An image file as uint8 [H, W, 3] RGB."""
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return Skipped(f"{path.name}: {error}")


def _folder(folder: Path) -> Clip:
    files = sorted(
        (path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES),
        key=lambda path: natural_order(path.name),
    )
    if not files:
        raise VisoloError(f"folder '{folder}' holds no images: name a folder of frames")
    names = tuple(file.name for file in files)
    return Clip(
        1, folder.name, lambda: map(read_image, files), length=len(files), frame_names=names
    )


def natural_order(name: str) -> list[tuple[int, int, str]]:
    """A sort key that puts frame10 after frame9."""
    # Splitting at a group puts the numbers in every second position. A longer number is a larger
    # one; Python refuses to convert very long ones.
    return [
        (1, len(part.lstrip("0")), part.lstrip("0")) if place % 2 else (0, 0, part.lower())
        for place, part in enumerate(re.split(r"([0-9]+)", name))
    ]


def _data_set(path: Path, images: Path) -> list[Clip]:
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
    return clips


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
        lambda: map(read_image, files),
        length=len(files),
        size=size,
        frame_names=names,
    )


# ------------------------------------------------------------------- videos and cameras


def _video_file(path: Path) -> Clip:
    with _open(str(path)) as container:
        stream = container.streams.video[0]
        fps = stream.average_rate or stream.guessed_rate or DEFAULT_FPS
        length = stream.frames or None
    return Clip(1, path.stem, lambda: _decode(str(path)), Fraction(fps), length)


def _stream(address: str) -> Clip:
    options = {"rtsp_transport": "tcp"} if address.lower().startswith("rtsp") else {}
    return Clip(1, address, lambda: _decode(address, options=options), live=True)


def _camera(index: int) -> Clip:
    if sys.platform == "darwin":
        device, driver = str(index), "avfoundation"
    elif sys.platform == "win32":
        device, driver = f"video={index}", "dshow"
    else:
        device, driver = f"/dev/video{index}", "v4l2"
        if not Path(device).exists():
            raise VisoloError(f"there is no camera {index} ({device})")
    return Clip(1, f"camera {index}", lambda: _decode(device, driver), live=True)


def _open(name: str, driver: str | None = None, options: dict[str, str] | None = None) -> Any:
    import av

    try:
        container = av.open(
            name, format=driver, options=options or {}, timeout=(_OPEN_TIMEOUT_S, _READ_TIMEOUT_S)
        )
    except (av.FFmpegError, OSError) as error:
        raise VisoloError(f"cannot open '{name}' as a video: {_message(error)}") from error
    if not container.streams.video:
        container.close()
        raise VisoloError(f"'{name}' has no video stream: name a video file")
    return container


def _decode(
    name: str, driver: str | None = None, options: dict[str, str] | None = None
) -> Iterator[Picture | Skipped]:
    """The frames of a video. Packets that cannot be decoded are skipped; a broken stream ends."""
    import av

    with _open(name, driver, options) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.FFmpegError as error:
                # The container itself is broken from here on; nothing more can be read from it.
                yield Skipped(f"the video is cut short: {_message(error)}")
                return
            try:
                for frame in packet.decode():
                    yield _picture(frame)
            except av.FFmpegError as error:
                yield Skipped(_message(error))


def _picture(frame: Any) -> Picture | Skipped:
    if frame.is_corrupt:
        return Skipped("damaged data")
    picture: Picture = frame.to_ndarray(format="rgb24")
    # Phones store portrait video on its side, with the rotation to apply.
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(picture, turns)) if turns else picture


def _message(error: Exception) -> str:
    """FFmpeg's message without the error number and the file name around it."""
    text = getattr(error, "strerror", None) or str(error)
    return str(text).lower()
