"""Frames as they came, for engines that resize them; those on a GPU are taken where they lie."""

from __future__ import annotations

from PIL import Image

from visolo_core.errors import VisoloError
from visolo_core.pixels import BGR, RGB, PackedLayout, PixelLayout, check_resizable, resizable
from visolo_runtime.engines.dlpack import ArrayInMemory
from visolo_runtime.engines.raw_frame import DeviceFrame, DevicePlane, HostFrame, RawFrame
from visolo_runtime.video.arrays import gpu_array
from visolo_runtime.video.frames import ChannelOrder, as_picture
from visolo_runtime.video.nv12 import Nv12Frame, check_planes

_EXPECTED = "a frame on a GPU must be uint8 [H, W, 3] with the channels of a pixel side by side"


def raw_frame(
    frame: object,
    size: tuple[int, int],
    channel_order: ChannelOrder = "rgb",
    gpu: int | None = None,
) -> RawFrame | None:
    """A frame for engines that resize it themselves; None if the host must do it, or nothing is
    to be done.

    Args:
        frame: an array [H, W, 3], an NV12 frame or a Pillow image, on the host or on a GPU.
        size: height and width of the network's input.
        channel_order: of an array.
        gpu: index of the engines' GPU.

    Raises:
        VisoloError: if the type or shape of the frame is wrong; if it is on a GPU and too large, or
            on another GPU than the engines.
    """
    on_gpu = device_frame(frame, channel_order)
    if on_gpu is not None:
        if None not in (gpu, on_gpu.gpu) and gpu != on_gpu.gpu:
            raise VisoloError(f"the frame is on GPU {on_gpu.gpu}, but this model runs on GPU {gpu}")
        check_resizable(on_gpu.size, size, max(plane.pitch for plane in on_gpu.planes))
        return on_gpu
    raw = _host_frame(frame, channel_order)
    if raw.size == size and raw.layout == RGB:
        return None
    row_bytes = max(plane[0].nbytes for plane in raw.planes)
    return raw if resizable(raw.size, size, row_bytes) else None


def _host_frame(frame: object, channel_order: ChannelOrder) -> HostFrame:
    if isinstance(frame, Nv12Frame):
        luma, chroma = frame.host_planes()
        height, width = luma.shape
        planes = luma, chroma.reshape(height // 2, width)
        return HostFrame((height, width), frame.layout(height), planes)
    picture = as_picture(frame)
    is_bgr = channel_order == "bgr" and not isinstance(frame, Image.Image)
    return HostFrame(picture.shape[:2], BGR if is_bgr else RGB, (picture,))


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
