"""Frames of other libraries, on the host and on a GPU that is played by the host's memory."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import Array
from visolo_core.colour import colour_matrix, nv12_to_rgb
from visolo_core.errors import VisoloError
from visolo_core.pixels import BGR, RGB, Nv12Layout, PackedLayout
from visolo_runtime.engines.device_array import DeviceArray
from visolo_runtime.engines.dlpack import CPU, CUDA, LEGACY_STREAM
from visolo_runtime.engines.raw_frame import DeviceFrame, DevicePlane, HostFrame
from visolo_runtime.video.arrays import gpu_array, host_array
from visolo_runtime.video.frames import as_picture
from visolo_runtime.video.nv12 import Nv12Frame
from visolo_runtime.video.raw_frames import device_frame, raw_frame
from visolo_runtime.video.resizing import resized

SIZE = (8, 10)


def noise(*shape: int) -> Array:
    return np.random.default_rng(3).integers(0, 256, shape, np.uint8)


class Interface:
    """An array on a GPU as Numba and CuPy describe it."""

    def __init__(self, values: Any, **changes: Any) -> None:
        self._values = values
        self.__cuda_array_interface__ = {
            "shape": values.shape,
            "typestr": values.dtype.str,
            "data": (values.ctypes.data, False),
            "version": 3,
            "strides": values.strides,
            "stream": 77,
        } | changes


class Dlpack:
    """A tensor as PyTorch shares it, on any device."""

    def __init__(self, values: Any, device: tuple[int, int] = (CUDA, 0)) -> None:
        self._values, self._device = torch.from_numpy(values), device
        self.asked: list[int | None] = []

    def __dlpack__(self, *, stream: int | None = None) -> Any:
        self.asked.append(stream)
        return self._values.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._device


def on_gpu(values: Array, gpu: int = 0) -> DeviceArray:
    return DeviceArray(values.ctypes.data, values.shape, values.dtype.name, values, (CUDA, gpu))


def accepted(frame: object, **options: Any) -> DeviceFrame:
    taken = device_frame(frame, **options)
    assert taken is not None
    return taken


# -------------------------------------------------------------------------------- on the host


def test_pytorch_tensors_and_others_are_frames() -> None:
    picture = noise(40, 60, 3)
    expected = resized(picture, SIZE)
    described = type("Described", (), {"__array_interface__": picture.__array_interface__})()
    for frame in (torch.from_numpy(picture), Dlpack(picture, (CPU, 0)), described):
        mine = resized(frame, SIZE)
        assert np.array_equal(mine.image, expected.image)
        assert mine.size == (40, 60)
        bgr = resized(frame, SIZE, "bgr")
        assert np.array_equal(bgr.image, expected.image[..., ::-1])


def test_they_are_not_copied() -> None:
    tensor = torch.zeros(4, 4, 3, dtype=torch.uint8)
    picture = as_picture(tensor)
    tensor[1, 2, 0] = 9
    assert picture[1, 2, 0] == 9


def test_tensors_that_are_no_frames() -> None:
    for tensor, words in (
        (torch.zeros(3, 8, 8, dtype=torch.uint8), "not uint8 \\[3, 8, 8\\]"),
        (torch.zeros(8, 8, 3), "not float32 \\[8, 8, 3\\]"),
        (torch.zeros(8, 8, 3, requires_grad=True), "torch.Tensor cannot be shared: .*gradient"),
        (torch.zeros(8, 8, 3, dtype=torch.bfloat16), "torch.Tensor cannot be shared"),
        (torch.zeros(8, 8, 3, device="meta"), "cannot be shared: Unknown device"),
    ):
        with pytest.raises(VisoloError, match=words):
            as_picture(tensor)


@pytest.mark.parametrize("height", [718, 720])
def test_nv12_on_the_host(height: int) -> None:
    """Colours are BT.709's from 720 lines on, unless they are named."""
    luma, chroma = noise(height, 12), noise(height // 2, 12)
    pairs = chroma.reshape(height // 2, 6, 2)
    usual = colour_matrix("bt709" if height == 720 else "bt601")
    for planes in ((luma, chroma), (torch.from_numpy(luma), torch.from_numpy(pairs))):
        mine = as_picture(Nv12Frame(*planes))
        assert np.array_equal(mine, nv12_to_rgb(luma, pairs, usual))
    named = as_picture(Nv12Frame(luma, chroma, "bt601", full_range=True))
    assert np.array_equal(named, nv12_to_rgb(luma, pairs, colour_matrix("bt601", True)))
    # The channel order is of arrays only.
    assert np.array_equal(
        resized(Nv12Frame(luma, chroma), SIZE, "bgr").image,
        resized(Nv12Frame(luma, chroma), SIZE).image,
    )


@pytest.mark.parametrize(
    ("luma", "chroma", "words"),
    [
        (noise(8, 8), noise(4, 4), "not uint8 \\[8, 8\\] and uint8 \\[4, 4\\]"),
        (noise(7, 8), noise(3, 8), "both even"),
        (noise(8, 8) / 2, noise(4, 8), "not float64"),
        (noise(8, 8, 1), noise(4, 8), "not uint8 \\[8, 8, 1\\]"),
        ("luma", noise(4, 8), "not a str that is not on the host"),
        (noise(8, 8), on_gpu(noise(4, 8)), "not a DeviceArray that is not on the host"),
    ],
)
def test_what_is_not_nv12(luma: Any, chroma: Any, words: str) -> None:
    with pytest.raises(VisoloError, match=words):
        as_picture(Nv12Frame(luma, chroma))


# ----------------------------------------------------------------------------------- on a GPU


def test_what_is_on_the_host_is_no_device_frame() -> None:
    for frame in (noise(4, 4, 3), torch.zeros(4, 4, 3), None, "frame", Nv12Frame(noise(4, 4), 0)):
        assert device_frame(frame) is None


def test_a_frame_by_each_protocol() -> None:
    picture = noise(6, 5, 3)
    plane = DevicePlane(picture.ctypes.data, 6, 15, 90)
    shared = Dlpack(picture)
    assert accepted(shared).planes == (plane,)
    assert shared.asked == [LEGACY_STREAM]  # its work is done before what follows on that stream
    described = accepted(Interface(picture))
    assert described.planes == (plane,)
    assert (described.size, described.layout, described.gpu) == ((6, 5), RGB, None)
    assert described.streams == (77,)
    mine = accepted(on_gpu(picture, 1), channel_order="bgr")
    assert (mine.layout, mine.gpu, mine.streams) == (BGR, 1, (LEGACY_STREAM,))


@pytest.mark.parametrize(
    ("stream", "streams"), [(None, ()), (1, (1,)), (2, (2,)), (140_000, (140_000,))]
)
def test_streams_of_the_interface(stream: int | None, streams: tuple[int, ...]) -> None:
    assert accepted(Interface(noise(4, 4, 3), stream=stream)).streams == streams


def test_version_2_knows_no_streams() -> None:
    frame = Interface(noise(4, 4, 3), version=2, strides=None)
    del frame.__cuda_array_interface__["stream"]
    assert accepted(frame).streams == (LEGACY_STREAM,)


def test_rows_and_pixels_with_gaps() -> None:
    wide = noise(20, 30, 4)
    part = wide[4:14, 3:20, :3]
    frame = accepted(Interface(part))
    assert frame.size == (10, 17)
    assert frame.layout == PackedLayout(4)
    (plane,) = frame.planes
    assert (plane.address, plane.rows, plane.pitch) == (part.ctypes.data, 10, 120)
    # It ends where the last pixel ends: what comes after may not be its memory.
    assert plane.address + plane.nbytes == part[-1, -1, -1:].ctypes.data + 1
    line = accepted(Interface(wide[2:3, :1, :3]))
    assert line.planes[0].nbytes == 3


def test_nv12_planes() -> None:
    surface = noise(18, 32)  # of 12 rows of 20 pixels, padded to 32 bytes
    luma, chroma = surface[:12, :20], surface[12:, :20]
    for pairs in (chroma, chroma.reshape(6, 10, 2), np.ascontiguousarray(chroma)):
        frame = accepted(Nv12Frame(Interface(luma), Interface(pairs), full_range=True))
        assert frame.size == (12, 20)
        assert frame.layout == Nv12Layout("bt601", True)
        assert [(plane.rows, plane.pitch, plane.nbytes) for plane in frame.planes] == [
            (12, 32, 372), (6, pairs.strides[0], 5 * pairs.strides[0] + 20),
        ]  # fmt: skip
    whole = accepted(Nv12Frame(on_gpu(noise(12, 20)), Interface(noise(6, 20))))
    assert (whole.gpu, whole.streams) == (0, (LEGACY_STREAM, 77))


class Owner:
    """Can be watched."""


def test_the_producers_memory_is_kept_and_let_go() -> None:
    values, owner = noise(4, 4, 3), Owner()
    array = DeviceArray(values.ctypes.data, (4, 4, 3), "uint8", owner, (CUDA, 0))
    watched = weakref.ref(owner)
    del owner
    frame = accepted(array)
    del array
    gc.collect()
    assert watched() is not None
    del frame
    gc.collect()
    assert watched() is None


def test_a_refused_frame_is_let_go() -> None:
    values, owner = noise(4, 4), Owner()
    array = DeviceArray(values.ctypes.data, (4, 4), "uint8", owner, (CUDA, 0))
    watched = weakref.ref(owner)
    del owner
    with pytest.raises(VisoloError, match="not uint8 \\[4, 4\\]"):
        device_frame(array)
    del array
    gc.collect()
    assert watched() is None


class Taken(Dlpack):
    """Gives the same capsule twice."""

    _capsule: Any = None

    def __dlpack__(self, *, stream: int | None = None) -> Any:
        self._capsule = self._capsule or self._values.__dlpack__()
        return self._capsule


class Refusing(Dlpack):
    def __dlpack__(self, *, stream: int | None = None) -> Any:
        raise BufferError("the stream is gone\nfor good")


PICTURE = noise(4, 4, 3)


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (on_gpu(noise(4, 4)), "must be uint8 \\[H, W, 3\\] .*, not uint8 \\[4, 4\\]"),
        (on_gpu(noise(4, 4, 3).astype(np.float32)), "not float32 \\[4, 4, 3\\]"),
        (on_gpu(noise(3, 4, 4)), "not uint8 \\[3, 4, 4\\]"),
        (Interface(noise(4, 0, 3)), "not uint8 \\[4, 0, 3\\]"),
        (Interface(noise(3, 4, 4).transpose(1, 2, 0)), "strides of \\[4, 1, 16\\] bytes: copy it"),
        (Interface(PICTURE[..., ::-1]), "strides of \\[12, 3, -1\\]"),
        (Interface(PICTURE[::-1]), "12 bytes apart or more, not -12"),
        (Interface(PICTURE[:1].repeat(2, 0), strides=(0, 3, 1)), "12 bytes apart or more, not 0"),
        (Interface(PICTURE, stream=0), "stream 0, which is ambiguous"),
        (Interface(PICTURE, mask=PICTURE), "has a mask"),
        (Interface(PICTURE, typestr=None, shape=3), "is not of version 2 or 3"),
        (Interface(PICTURE, data=None), "Interface is not of version 2 or 3: TypeError"),
        (Refusing(PICTURE), "Refusing cannot be shared: the stream is gone$"),
        (Nv12Frame(on_gpu(noise(4, 4)), noise(2, 4)), "must be on the same GPU"),
        (Nv12Frame(on_gpu(noise(4, 4)), on_gpu(noise(2, 4), 1)), "must be on the same GPU"),
        (Nv12Frame(on_gpu(noise(4, 4)), on_gpu(noise(4, 4))), "not uint8 \\[4, 4\\] and uint8"),
        (
            Nv12Frame(Interface(noise(4, 8)[:, ::2]), Interface(noise(2, 4))),
            "no gaps within, unlike strides of \\[8, 2\\]",
        ),
    ],
)
def test_frames_on_a_gpu_that_are_refused(frame: object, words: str) -> None:
    with pytest.raises(VisoloError, match=words) as caught:
        device_frame(frame)
    assert "\n" not in str(caught.value)


def test_a_capsule_can_be_taken_once() -> None:
    frame = Taken(PICTURE)
    first = accepted(frame)
    with pytest.raises(VisoloError, match="can be taken once"):
        device_frame(frame)
    assert first.planes[0].nbytes == 48


def test_a_capsule_that_is_none() -> None:
    frame = Dlpack(PICTURE)
    frame._values = type("Fake", (), {"__dlpack__": lambda self: 5})()
    with pytest.raises(VisoloError, match="a capsule named 'dltensor' was expected"):
        device_frame(frame)


def test_a_session_on_the_host_refuses_it() -> None:
    for frame in (on_gpu(PICTURE), Interface(PICTURE)):
        with pytest.raises(VisoloError, match="on another device: copy it to the host first"):
            resized(frame, SIZE)


def test_each_array_is_on_one_side() -> None:
    tensor, gpu = torch.zeros(3), on_gpu(PICTURE)
    assert host_array(tensor) is not None
    assert gpu_array(tensor) is None
    assert host_array(gpu) is None
    assert gpu_array(gpu) is not None
    assert host_array(5) is None
    assert gpu_array(5) is None


# --------------------------------------------------------------- for engines that resize them


def test_frames_on_the_host_keep_their_memory() -> None:
    picture = noise(12, 20, 3)
    for frame, order, layout in (
        (picture, "rgb", RGB),
        (picture, "bgr", BGR),
        (torch.from_numpy(picture), "bgr", BGR),
        (Image.fromarray(picture), "bgr", RGB),  # Pillow knows its own order
    ):
        raw = raw_frame(frame, SIZE, order)  # type: ignore[arg-type]
        assert isinstance(raw, HostFrame)
        assert (raw.size, raw.layout) == ((12, 20), layout)
        assert np.array_equal(raw.planes[0], picture)
        assert np.shares_memory(raw.planes[0], picture) == (not isinstance(frame, Image.Image))


def test_nv12_for_engines() -> None:
    luma, chroma = noise(12, 20), noise(6, 20)
    raw = raw_frame(Nv12Frame(luma, chroma.reshape(6, 10, 2)), SIZE)
    assert isinstance(raw, HostFrame)
    assert raw.layout == Nv12Layout("bt601")
    assert [plane.shape for plane in raw.planes] == [(12, 20), (6, 20)]


def test_what_engines_cannot_resize() -> None:
    """A frame on the host is resized there instead; one on a GPU cannot be."""
    for shape in ((3841, 16, 3), (16, 3841, 3), (16, 311, 3)):
        assert raw_frame(np.zeros(shape, np.uint8), SIZE) is None
        with pytest.raises(VisoloError, match=f"a frame of {shape[1]}x{shape[0]} pixels"):
            raw_frame(on_gpu(np.zeros(shape, np.uint8)), SIZE)
    spread = np.zeros((2, 15_361 * 2), np.uint8)[:, : 16 * 3].reshape(2, 16, 3)
    with pytest.raises(VisoloError, match="its rows 30722 bytes apart"):
        raw_frame(Interface(spread), SIZE)
    assert raw_frame(spread, SIZE) is not None  # it is copied on its way


def test_a_frame_on_another_gpu() -> None:
    """It is refused where the GPUs are known."""
    for frame in (on_gpu(PICTURE, 3), Nv12Frame(on_gpu(noise(4, 4), 3), on_gpu(noise(2, 4), 3))):
        with pytest.raises(VisoloError, match="is on GPU 3, but this model runs on GPU 0"):
            raw_frame(frame, SIZE, gpu=0)
        assert raw_frame(frame, SIZE, gpu=3) is not None
    assert raw_frame(Interface(PICTURE), SIZE, gpu=0) is not None


def test_what_is_no_frame_at_all() -> None:
    with pytest.raises(VisoloError, match="not a list"):
        raw_frame([1, 2], SIZE)
