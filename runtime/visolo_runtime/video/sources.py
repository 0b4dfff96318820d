"""Where frames come from: a video file, a folder of frames, a camera, a stream, a data set.

Every source is a list of clips; a data set and a folder of videos have several. A clip yields its
frames in order, and a ``Skipped`` in place of each frame that cannot be read.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from visolo_core.errors import VisoloError
from visolo_core.files import inside, read_json, reason
from visolo_runtime.video.frame_names import (
    is_pattern,
    is_picture,
    is_video,
    matching,
    missing_numbers,
)
from visolo_runtime.video.frames import Picture
from visolo_runtime.video.pipes import open_pipe

DEFAULT_FPS = Fraction(30)
STANDARD_INPUT = "-"
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
    once: bool = False
    """Whether the frames can be read only once, as those of a pipe."""
    files: tuple[Path, ...] = ()
    """What is read: no output may be one of these."""
    notes: tuple[str, ...] = ()
    """What a user should know about the clip before it runs, one sentence each."""


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
        return [_standard_input()]
    if (state := _state(source)) is not None:
        return _existing(path, state.st_mode, images)
    if _ADDRESS.match(source):
        return [_stream(source)]
    if re.fullmatch(r"[0-9]{1,4}", source):
        return [_camera(int(source))]
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
        return [_frames(pictures)]
    pipes = [pipe for source in sources if (pipe := pipe_id(source))]
    if len(set(pipes)) != len(pipes):
        raise VisoloError(
            "a pipe can be read only once, but two sources are the same: name it once"
        )
    clips = [clip for source in sources for clip in open_source(source, images)]
    return [replace(clip, video_id=number) for number, clip in enumerate(clips, start=1)]


def _state(source: str) -> os.stat_result | None:
    """What is known of a file; None if there is none of this name.

    Raises:
        VisoloError: if its folder may not be read.
    """
    try:
        return os.fstat(0) if source == STANDARD_INPUT else Path(source).stat()
    except PermissionError as error:
        raise VisoloError(f"cannot read '{source}': {reason(error)}") from error
    except (OSError, ValueError):  # an address is too long for the name of a file
        return None


def _existing(path: Path, mode: int, images: Path | None) -> list[Clip]:
    if stat.S_ISDIR(mode):
        return _several(f"folder '{path}'", [each for each in path.iterdir() if each.is_file()])
    if stat.S_ISFIFO(mode):
        return [_opened_once(path, path.name, path)]
    if stat.S_ISCHR(mode):
        return [_camera_at(path)]
    if path.suffix.lower() == ".json":
        return _data_set(path, images or path.parent / "JPEGImages")
    if is_picture(path):  # FFmpeg would look for numbers in its name
        return [replace(_frames([path]), name=path.stem)]
    return [_video_file(path)]


# ------------------------------------------------------------------------- image files


def read_image(path: Path) -> Picture | Skipped:
    """An image file as uint8 [H, W, 3] RGB."""
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return Skipped(f"{path.name}: {error}")


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
        return [_frames(pictures)]
    if not videos:
        raise VisoloError(f"{where} holds no images and no videos: name a folder of frames")
    return [
        replace(_video_in_folder(video), video_id=number)
        for number, video in enumerate(videos, start=1)
    ]


def _frames(files: list[Path]) -> Clip:
    """Pictures as the frames of one clip, in the order of the numbers in their names."""
    files = sorted(files, key=lambda path: natural_order(str(path)))
    names = tuple(file.name for file in files)
    missing = missing_numbers(names)
    return Clip(
        1,
        files[0].absolute().parent.name,
        lambda: map(read_image, files),
        length=len(files),
        frame_names=names,
        files=tuple(files),
        notes=(missing,) if missing else (),
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
        lambda: map(read_image, files),
        length=len(files),
        size=size,
        frame_names=names,
        files=tuple(files),
    )


# ------------------------------------------------------------------------- video files


def _video_file(path: Path) -> Clip:
    # Without "file:" FFmpeg takes a name with a colon for an address.
    address = f"file:{path}"
    with _open(address) as container:
        fps, length = _rate(container), container.streams.video[0].frames or None
    return Clip(1, path.stem, lambda: _decode(address), fps, length, files=(path,))


def _video_in_folder(path: Path) -> Clip:
    """A video that may be unreadable: that is its own error when it runs, not the folder's."""
    try:
        return _video_file(path)
    except VisoloError as error:
        problem = error

    def frames() -> Iterator[Picture | Skipped]:
        raise problem

    return Clip(1, path.stem, frames, files=(path,))


def _rate(container: Any) -> Fraction:
    stream = container.streams.video[0]
    return Fraction(stream.average_rate or stream.guessed_rate or DEFAULT_FPS)


# ------------------------------------------------------------------------------- pipes


def pipe_id(source: str) -> tuple[int, int] | None:
    """What is the same for all names of a pipe, such as ``-``; None for other sources."""
    state = _state(source)
    if state is None or not (source == STANDARD_INPUT or stat.S_ISFIFO(state.st_mode)):
        return None
    return state.st_dev, state.st_ino


def _standard_input() -> Clip:
    if os.isatty(0):
        raise VisoloError("standard input is a terminal: send a video into it, or name a file")
    return _opened_once(0, "standard input", Path("/dev/stdin"))


def _opened_once(file: int | Path, name: str, path: Path) -> Clip:
    """What is opened here and not again: its beginning cannot be read twice.

    Args:
        file: a descriptor, or a FIFO, whose writer is waited for.
        name: of the clip.
        path: that no output may be.
    """
    try:
        pipe = open_pipe(file)
    except OSError as error:
        raise VisoloError(f"cannot read '{name}': {reason(error)}") from error
    try:
        # A pipe may be quiet for as long as its writer likes.
        containers = [_open(pipe, shown=name, timeout=None)]
    except VisoloError:
        pipe.close()
        raise
    rate = _rate(containers[0])

    def frames() -> Iterator[Picture | Skipped]:
        if not containers:
            raise VisoloError(f"'{name}' can be read only once: name a file")
        with pipe:
            yield from _decode(name, opened=containers.pop())

    return Clip(1, name, frames, rate, once=True, files=(path,))


# ----------------------------------------------------------------- cameras and streams


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


def _camera_at(device: Path) -> Clip:
    """A camera by its device, such as ``/dev/video0`` or a link to it."""
    driver = "v4l2" if sys.platform == "linux" else None
    return Clip(
        1, f"camera {device}", lambda: _decode(str(device), driver), live=True, files=(device,)
    )


def _open(
    source: Any,
    driver: str | None = None,
    options: dict[str, str] | None = None,
    shown: str | None = None,
    timeout: tuple[float, float] | None = (_OPEN_TIMEOUT_S, _READ_TIMEOUT_S),
) -> Any:
    """Open an address, or a file object, whose name is ``shown``."""
    import av

    name = shown or str(source).removeprefix("file:")
    try:
        container = av.open(source, format=driver, options=options or {}, timeout=timeout)
    except (av.FFmpegError, OSError) as error:
        raise VisoloError(f"cannot open '{name}' as a video: {_message(error)}") from error
    if not container.streams.video:
        container.close()
        raise VisoloError(f"'{name}' has no video stream: name a video file")
    return container


def _decode(
    name: str,
    driver: str | None = None,
    options: dict[str, str] | None = None,
    opened: Any = None,
) -> Iterator[Picture | Skipped]:
    """The frames of a video. Packets that cannot be decoded are skipped; a broken stream ends."""
    import av

    with opened or _open(name, driver, options) as container:
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
