"""Frames that lie on a GPU already, taken where they are."""

from __future__ import annotations

from dataclasses import dataclass

from visolo_core.errors import VisoloError
from visolo_core.pixels import BGR, RGB, PackedLayout, PixelLayout
from visolo_runtime.engines.dlpack import ArrayInMemory
from visolo_runtime.video.arrays import gpu_array
from visolo_runtime.video.frames import ChannelOrder
from visolo_runtime.video.nv12 import Nv12Frame, check_planes

_EXPECTED = "a frame on a GPU must be uint8 [H, W, 3] with the channels of a pixel side by side"


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


def device_frame(frame: object, channel_order: ChannelOrder = "rgb") -> DeviceFrame | None:
    """A frame on a GPU; None for everything that is not on one.

    Args:
        frame: an array [H, W, 3] or an NV12 frame, of a library that shares its arrays through
            ``__dlpack__`` or ``__cuda_array_interface__``. Rows and pixels may lie further apart
            than they are long.
        channel_order: of an array.

    Raises:
        VisoloError: if it is on a GPU, but its type, shape or strides are wrong.
    """
    if isinstance(frame, Nv12Frame):
        return _nv12(frame)
    array = gpu_array(frame)
    return None if array is None else _packed(array, channel_order)


def _packed(array: ArrayInMemory, channel_order: ChannelOrder) -> DeviceFrame:
    shape = array.shape
    if array.dtype != "uint8" or len(shape) != 3 or shape[2] != 3 or min(shape) < 1:
        raise VisoloError(f"{_EXPECTED}, not {array.dtype} {list(shape)}")
    height, width, _ = shape
    pixel, channel = array.strides[1:]
    if channel != 1 or (width > 1 and pixel < 3):
        raise VisoloError(
            f"{_EXPECTED}, not with strides of {list(array.strides)} bytes: copy it with the "
            "contiguous() or ascontiguousarray() of its library"
        )
    order = (RGB if channel_order == "rgb" else BGR).channels
    pixel = pixel if width > 1 else 3
    plane = _plane(array, (width - 1) * pixel + 3)
    return _frame((height, width), PackedLayout(pixel, order), (plane,), (array,))


def _nv12(frame: Nv12Frame) -> DeviceFrame | None:
    luma, chroma = gpu_array(frame.luma), gpu_array(frame.chroma)
    if luma is None and chroma is None:
        return None
    known = {each.device[1] for each in (luma, chroma) if each is not None} - {-1}
    if luma is None or chroma is None or len(known) > 1:
        raise VisoloError("luma and chroma of an NV12 frame must be on the same GPU")
    size = check_planes(luma.dtype, luma.shape, chroma.dtype, chroma.shape)
    for array in (luma, chroma):
        inner = 2 if len(array.shape) == 3 else 1
        if array.strides[1:] not in ((1,), (inner, 1)):
            raise VisoloError(
                "the rows of an NV12 frame on a GPU must have no gaps within, unlike strides of "
                f"{list(array.strides)} bytes"
            )
    planes = _plane(luma, size[1]), _plane(chroma, size[1])
    return _frame(size, frame.layout(size[0]), planes, (luma, chroma))


def _plane(array: ArrayInMemory, row_bytes: int) -> DevicePlane:
    rows, pitch = array.shape[0], array.strides[0]
    if rows == 1:  # libraries put anything there
        pitch = row_bytes
    if pitch < row_bytes:
        raise VisoloError(
            f"the rows of a frame on a GPU must lie one below the other, {row_bytes} bytes apart "
            f"or more, not {pitch}"
        )
    return DevicePlane(array.address, rows, pitch, (rows - 1) * pitch + row_bytes)


def _frame(
    size: tuple[int, int],
    layout: PixelLayout,
    planes: tuple[DevicePlane, ...],
    arrays: tuple[ArrayInMemory, ...],
) -> DeviceFrame:
    index = max(array.device[1] for array in arrays)
    streams = dict.fromkeys(array.stream for array in arrays if array.stream is not None)
    owners = tuple(array.owner for array in arrays)
    return DeviceFrame(size, layout, planes, None if index < 0 else index, tuple(streams), owners)
