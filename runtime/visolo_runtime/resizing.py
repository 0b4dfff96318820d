"""Frames brought to the size that the network takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from visolo_core.errors import VisoloError


@dataclass(frozen=True)
class ResizedFrame:
    """A frame that was resized ahead, by the thread that has read it for instance."""

    image: NDArray[np.uint8]
    """[H, W, 3] RGB at the network's input size"""
    size: tuple[int, int]
    """height and width that the frame had"""


def resized(frame: NDArray[np.uint8], size: tuple[int, int]) -> ResizedFrame:
    """A frame as a session takes it without further work.

    Args:
        frame: uint8 [H, W, 3] RGB.
        size: height and width that the network takes.

    Raises:
        VisoloError: if the frame is of another type or shape.
    """
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or not frame.size:
        raise VisoloError(
            f"a frame must be uint8 [H, W, 3] RGB, not {frame.dtype} {list(frame.shape)}"
        )
    return ResizedFrame(resize_frame(frame, size), (frame.shape[0], frame.shape[1]))


def resize_frame(frame: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """A frame as the network takes it: resized bilinearly, the aspect ratio not kept (paper).

    Args:
        frame: uint8 [H, W, 3].
        size: (height, width) of the result.
    """
    if frame.shape[:2] == size:
        return frame
    made = Image.fromarray(frame).resize(size[::-1], Image.Resampling.BILINEAR)
    return np.asarray(made)
