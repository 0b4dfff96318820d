"""Frames as they came, for engines that resize them on their device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visolo_core.pixels import RGB, USUAL_FRAME, Nv12Layout, PixelLayout


@dataclass(frozen=True)
class HostFrame:
    """A frame in the host's memory."""

    size: tuple[int, int]
    """Height and width."""
    layout: PixelLayout
    planes: tuple[NDArray[np.uint8], ...]
    """The pixels [h, w, 3], or luma [h, w] and chroma [h / 2, w], with any strides."""


@dataclass(frozen=True)
class DevicePlane:
    """Bytes of a frame on a GPU."""

    address: int
    rows: int
    pitch: int
    """Bytes from one row to the next."""
    nbytes: int
    """From the first byte of the first row to the last of the last; rows end before their pitch."""


@dataclass(frozen=True)
class DeviceFrame:
    """A frame on a GPU, and what must be known to read it there."""

    size: tuple[int, int]
    """Height and width."""
    layout: PixelLayout
    planes: tuple[DevicePlane, ...]
    """The pixels, or luma and chroma."""
    gpu: int | None
    """Index of the GPU, where it is known."""
    streams: tuple[int, ...]
    """CUDA streams whose work must be done before the frame is complete."""
    owner: object
    """Keeps the memory: until the frame has been read, and no longer than that."""


RawFrame = HostFrame | DeviceFrame


def usual_frames() -> tuple[HostFrame, ...]:
    """A black frame of a usual size for each graph that resizes."""
    height, width = USUAL_FRAME
    pixels = np.zeros((height, width, 3), np.uint8)
    luma, chroma = pixels[..., 0], pixels[: height // 2, :, 0]
    return (
        HostFrame(USUAL_FRAME, RGB, (pixels,)),
        HostFrame(USUAL_FRAME, Nv12Layout(), (luma, chroma)),
    )
