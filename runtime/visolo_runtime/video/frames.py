"""What is accepted as a frame, and the error message for anything else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from visolo_core.errors import VisoloError
from visolo_runtime.video.arrays import CudaArray, DlpackArray, host_array
from visolo_runtime.video.nv12 import Nv12Frame

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


Frame = Picture | Image.Image | ResizedFrame | Nv12Frame | DlpackArray | CudaArray
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
    """A frame as an array on the host; the channel order of an array does not change.

    Args:
        frame: uint8 [H, W, 3], of NumPy or of a library that shares its arrays through
            ``__dlpack__`` or ``__array_interface__``; or an NV12 frame or a Pillow image of any
            mode, which are converted to RGB.

    Raises:
        VisoloError: if it is anything else; the message says how to convert it.
    """
    if type(frame) is np.ndarray and _is_picture(frame):
        return frame
    if isinstance(frame, Image.Image):
        return np.asarray(frame.convert("RGB"))
    if isinstance(frame, Nv12Frame):
        return frame.as_rgb()
    if frame is None:
        raise VisoloError(f"{_EXPECTED}, not None: the source returned no frame")
    array, kind = host_array(frame), type(frame).__name__
    if array is None and isinstance(frame, (DlpackArray, CudaArray)):
        raise VisoloError(f"{_EXPECTED}, not a {kind} on another device: copy it to the host first")
    if array is None:
        raise VisoloError(f"{_EXPECTED}, not a {kind}: convert it with numpy.asarray(frame)")
    described = f"not {array.dtype} {list(array.shape)}"
    if array.dtype != np.uint8:
        raise VisoloError(
            f"{_EXPECTED}, {described}: scale it to 0 to 255 and use .astype('uint8')"
        )
    if array.ndim == 2:
        raise VisoloError(f"{_EXPECTED}, {described}: repeat grey with numpy.dstack([frame] * 3)")
    if not _is_picture(array):
        raise VisoloError(f"{_EXPECTED}, {described}")
    return array


def _is_picture(array: NDArray[Any]) -> bool:
    return array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3 and array.size > 0
