"""Frames brought to the size that the network takes, pixel for pixel as the paper does.

The paper's code resizes with Pillow, which went along the rows first and then along the columns,
rounding in between. Since version 13 Pillow takes the order that is cheaper: for upright and 4:3
videos another one, and a fourth of the pixels comes out a grey level apart. So the two passes are
asked for one by one. Each can be shared among threads, since its lines know nothing of each other.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise

import numpy as np
from PIL import Image

from visolo_runtime.video.frames import ChannelOrder, Picture, ResizedFrame, as_picture

_SHARED_FROM = 500_000
"""Pixels of a frame from which on threads are worth it."""
_THREADS = min(4, os.cpu_count() or 1)


def resized(
    frame: Picture | Image.Image,
    size: tuple[int, int],
    channel_order: ChannelOrder = "rgb",
    threads: int = _THREADS,
) -> ResizedFrame:
    """A frame as a session takes it without further work.

    Args:
        frame: uint8 [H, W, 3], or a Pillow image.
        size: height and width that the network takes.
        channel_order: of a frame that is an array.
        threads: that share the work, where there is enough of it.

    Raises:
        VisoloError: if the frame is of another type or shape.
    """
    picture = as_picture(frame)
    image = resize_frame(picture, size, threads)
    if channel_order == "bgr" and picture is frame:
        image = np.ascontiguousarray(image[..., ::-1])
    return ResizedFrame(image, (picture.shape[0], picture.shape[1]))


def resize_frame(frame: Picture, size: tuple[int, int], threads: int = _THREADS) -> Picture:
    """A frame as the network takes it: resized bilinearly, the aspect ratio not kept (paper).

    Args:
        frame: uint8 [H, W, 3].
        size: (height, width) of the result.
        threads: that share the work, where there is enough of it.
    """
    before, (height, width) = frame.shape[:2], size
    if before == size:
        return frame
    if threads == 1 or before[0] * before[1] < _SHARED_FROM:
        across = _bilinear(Image.fromarray(frame), width, before[0])
        return np.asarray(_bilinear(across, width, height))
    middle = np.empty((before[0], width, 3), np.uint8)
    target = np.empty((height, width, 3), np.uint8)

    def rows(part: slice) -> None:
        strip = Image.fromarray(frame[part])
        middle[part] = np.asarray(_bilinear(strip, width, strip.height))

    def columns(part: slice) -> None:
        strip = Image.fromarray(middle[:, part])
        target[:, part] = np.asarray(_bilinear(strip, strip.width, height))

    _share(rows, before[0], threads)
    _share(columns, width, threads)
    return target


def _bilinear(picture: Image.Image, width: int, height: int) -> Image.Image:
    if picture.size == (width, height):
        return picture
    return picture.resize((width, height), Image.Resampling.BILINEAR)


def _share(work: Callable[[slice], None], length: int, threads: int) -> None:
    """Let threads do a part of a length each."""
    cuts = [length * part // threads for part in range(threads + 1)]
    mine, *others = (slice(a, b) for a, b in pairwise(cuts) if b > a)
    waiting = [_pool().submit(work, part) for part in others]
    work(mine)
    for each in waiting:
        each.result()


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, _THREADS - 1), thread_name_prefix="visolo-resize")
