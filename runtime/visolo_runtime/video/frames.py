"""What is accepted as a frame, and the error message for anything else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from visolo_core.errors import VisoloError

Picture = NDArray[np.uint8]
"""uint8 [H, W, 3] RGB."""
ChannelOrder = Literal["rgb", "bgr"]


@dataclass(frozen=True)
class ResizedFrame:
    """A frame that was resized before the step, for instance by the thread that read it."""

    image: Picture
    """[H, W, 3] RGB at the network's input size"""
    size: tuple[int, int]
    """height and width before resizing"""


Frame = Picture | Image.Image | ResizedFrame
"""What a session accepts."""

_EXPECTED = "a frame must be a uint8 array [H, W, 3] or a Pillow image"


def check_channel_order(order: str) -> ChannelOrder:
    """A channel order by name.

    Raises:
        VisoloError: if it is unknown.
    """
    for known in get_args(ChannelOrder):
        if order == known:
            return known  # type: ignore[no-any-return]
    raise VisoloError(f"channel order '{order}' is unknown: choose 'rgb' or 'bgr'")


def as_picture(frame: object) -> Picture:
    """A frame as an array; the channel order does not change.

    Args:
        frame: uint8 [H, W, 3], or a Pillow image of any mode, which is converted to RGB.

    Raises:
        VisoloError: if it is anything else; the message says how to convert it.
    """
    if isinstance(frame, Image.Image):
        return np.asarray(frame.convert("RGB"))
    if frame is None:
        raise VisoloError(f"{_EXPECTED}, not None: the source returned no frame")
    if not isinstance(frame, np.ndarray):
        kind = type(frame).__name__
        raise VisoloError(f"{_EXPECTED}, not a {kind}: convert it with numpy.asarray(frame)")
    described = f"not {frame.dtype} {list(frame.shape)}"
    if frame.dtype != np.uint8:
        raise VisoloError(
            f"{_EXPECTED}, {described}: scale it to 0 to 255 and use .astype('uint8')"
        )
    if frame.ndim == 2:
        raise VisoloError(f"{_EXPECTED}, {described}: repeat grey with numpy.dstack([frame] * 3)")
    if frame.ndim != 3 or frame.shape[2] != 3 or not frame.size:
        raise VisoloError(f"{_EXPECTED}, {described}")
    return frame
