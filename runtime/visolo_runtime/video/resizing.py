"""Resizing frames to the network's input size, pixel for pixel like the paper's code.

The paper's code resizes with Pillow, which used to resize along the rows first and then along the
columns, rounding in between. Since version 13 Pillow chooses the cheaper order. For upright and 4:3
videos that is the other one, and a quarter of the pixels differ by a grey level. So the two passes
are made one by one here. Each can be split among threads, since its lines are independent.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise

import numpy as np
from PIL import Image

from visolo_runtime.video.arrays import CudaArray, DlpackArray
from visolo_runtime.video.frames import ChannelOrder, Picture, ResizedFrame, as_picture
from visolo_runtime.video.nv12 import Nv12Frame

_SHARED_FROM = 500_000
"""Frames with fewer pixels are not worth splitting among threads."""
_THREADS = min(4, os.cpu_count() or 1)


def resized(
    frame: Picture | Image.Image | Nv12Frame | DlpackArray | CudaArray,
    size: tuple[int, int],
    channel_order: ChannelOrder = "rgb",
    threads: int = _THREADS,
) -> ResizedFrame:
    """A frame resized for a session, which then has nothing left to resize.

    Args:
        frame: uint8 [H, W, 3], a Pillow image or an NV12 frame, on the host.
        size: height and width of the network's input.
        channel_order: of a frame given as an array.
        threads: most threads to split the work among; small frames use one.

    Raises:
        VisoloError: if the type or shape of the frame is wrong.
    """
    picture = as_picture(frame)
    image = resize_frame(picture, size, threads)
    if channel_order == "bgr" and not isinstance(frame, (Image.Image, Nv12Frame)):
        image = np.ascontiguousarray(image[..., ::-1])
    return ResizedFrame(image, (picture.shape[0], picture.shape[1]))


def resize_frame(frame: Picture, size: tuple[int, int], threads: int = _THREADS) -> Picture:
    """Resize a frame bilinearly, without keeping the aspect ratio, as in the paper.

    Args:
        frame: uint8 [H, W, 3].
        size: (height, width) of the result.
        threads: most threads to split the work among; small frames use one.
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
    """Split a length into parts and do each part in a thread of its own."""
    cuts = [length * part // threads for part in range(threads + 1)]
    first, *others = (slice(a, b) for a, b in pairwise(cuts) if b > a)
    waiting = [_pool().submit(work, part) for part in others]
    work(first)
    for each in waiting:
        each.result()


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, _THREADS - 1), thread_name_prefix="visolo-resize")
