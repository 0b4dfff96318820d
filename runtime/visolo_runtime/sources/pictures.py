"""Pictures as frames: files one by one, and those of a folder or a pattern as a clip."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, TiffImagePlugin

from visolo_core.errors import VisoloError
from visolo_runtime.sources.clip import DEFAULT_FPS, Clip, Skipped, SourceFrame
from visolo_runtime.sources.frame_names import missing_after, missing_numbers
from visolo_runtime.video.frames import Picture

_ORIENTATION, _WIDTH, _HEIGHT = 0x0112, 0x0100, 0x0101  # tags of EXIF and TIFF
_ON_ITS_SIDE = (5, 6, 7, 8)


def read_image(path: Path) -> Picture | Skipped:
    """An image file as uint8 [H, W, 3] RGB, turned as its EXIF orientation says.

    Grey values of 16 bits are scaled by 255/65535 and floating-point ones from 0 to 1 by 255:
    always by the range of the type, so that the frames of a video keep their brightness.
    """
    try:
        with Image.open(path) as image:
            return np.asarray(_rgb(ImageOps.exif_transpose(image)))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return Skipped(f"{path.name}: {error}")


def read_jpeg(data: bytes, most_pixels: int) -> Picture:
    """A JPEG in memory as uint8 [H, W, 3] RGB.

    Args:
        data: the file's content.
        most_pixels: of a picture that is accepted, so that a small file cannot fill the memory.

    Raises:
        VisoloError: if it is no JPEG, or has more pixels.
    """
    try:
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
            if image.width * image.height > most_pixels:
                raise VisoloError(
                    f"a frame is {image.width}x{image.height}: send at most {most_pixels} pixels"
                )
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise VisoloError("a frame is not a JPEG that can be read") from error


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Height and width of an opened image file as it is seen, from its header."""
    width, height = image.size
    if isinstance(image, TiffImagePlugin.TiffImageFile):  # Pillow may have turned it already
        width, height = image.tag_v2[_WIDTH], image.tag_v2[_HEIGHT]
    on_its_side = image.getexif().get(_ORIENTATION) in _ON_ITS_SIDE
    return (width, height) if on_its_side else (height, width)


def frames_of_pictures(
    files: Iterable[Path],
    size: tuple[int, int] | None = None,
    places: Iterable[int] | None = None,
) -> Iterator[SourceFrame | Skipped]:
    """Pictures as the frames of a video.

    Args:
        files: in their order.
        size: height and width that each must have, if an annotation states them.
        places: of each in the video, rising from 0; by default one after the other.

    Raises:
        VisoloError: if a picture has another size.
    """
    numbered = enumerate(files) if places is None else zip(places, files, strict=True)
    for place, file in numbered:
        picture, time_s = read_image(file), float(place / DEFAULT_FPS)
        if isinstance(picture, Skipped):
            yield replace(picture, time_s=time_s)
            continue
        if size is not None and picture.shape[:2] != size:
            raise VisoloError(_other_size(file, picture.shape[:2], size))
        yield SourceFrame(picture, time_s)


def clip_of_pictures(files: list[Path]) -> Clip:
    """Pictures as the frames of one clip, in the order of the numbers in their names.

    A gap in the numbers is one in the times.
    """
    files = sorted(files, key=lambda path: natural_order(str(path)))
    names = tuple(file.name for file in files)
    missing = missing_numbers(names)
    places = _places(names)
    return Clip(
        1,
        files[0].absolute().parent.name,
        lambda: frames_of_pictures(files, places=places),
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


def _rgb(image: Image.Image) -> Any:
    """uint8 [H, W, 3] of an image of any mode."""
    if image.mode.startswith("I;16"):
        return _grey(np.asarray(image), 65535)
    if image.mode == "I":  # 32 bits, in which PGM stores 16
        return _grey(np.asarray(image), 65535)
    if image.mode == "F":
        return _grey(np.asarray(image), 1)
    return image.convert("RGB")


def _grey(values: Any, white: int) -> Any:
    """uint8 [H, W, 3] of grey values from 0 to ``white``.

    Raises:
        ValueError: if there are others.
    """
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= white):  # also if there is NaN
        raise ValueError(
            f"its grey values are from {low:g} to {high:g}, not from 0 to {white}: convert it to a "
            "picture of 8 or 16 bits"
        )
    scaled = np.rint(values * np.float32(255 / white)).astype(np.uint8)
    return np.repeat(scaled[..., None], 3, axis=2)


def _other_size(file: Path, size: tuple[int, int], annotated: tuple[int, int]) -> str:
    (height, width), (stated_height, stated_width) = size, annotated
    text = (
        f"the frame '{file}' is {width}x{height}, its annotation says "
        f"{stated_width}x{stated_height}"
    )
    with Image.open(file) as image:
        is_turned = image.getexif().get(_ORIENTATION, 1) in _ON_ITS_SIDE
    if is_turned and size == annotated[::-1]:
        return f"{text}: the size before its EXIF orientation is applied; annotate it as it is seen"
    return f"{text}: name the folder with the frames that were annotated"


def _places(names: Sequence[str]) -> list[int]:
    """Of each frame in the video, from 0: numbers that are missing in the names leave a gap."""
    places = [0]
    for missing in missing_after(names):
        places.append(places[-1] + 1 + missing)
    return places
