"""What goes into the graphs that resize frames on a device, and what comes out.

The frame is bytes at its own place and pitch. How it is resized lies in small tensors that depend
on its size and format alone: they go up once a video.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from visolo_core.colour import ColourStandard, colour_matrix
from visolo_core.contract import GraphSpec, TensorSpec
from visolo_core.errors import VisoloError
from visolo_core.resampling import MOST_SHRINKING, bilinear_taps, most_taps

PixelGraph = Literal["resize", "resize_nv12"]
PIXEL_GRAPHS: tuple[PixelGraph, ...] = ("resize", "resize_nv12")

ROWS, PITCH = "rows", "pitch"
ROW_PAIRS, CHROMA_PITCH = "row_pairs", "chroma_pitch"
ACROSS, DOWN = "across", "down"
"""Names of the sides that are not fixed: rows of the frame and bytes from one to the next; taps of
a pixel along a row and along a column."""
LARGEST_SIDE = 3840
"""Most rows and columns of a frame that engines are built for: 4K, upright or not."""
USUAL_FRAME = (1080, 1920)
"""Height and width of the frames that engines are built to be fastest for."""
_MOST_PITCH = 4 * LARGEST_SIDE


@dataclass(frozen=True)
class PackedLayout:
    """Where the channels of a packed frame lie."""

    pixel_bytes: int = 3
    """From one pixel to the next."""
    channels: tuple[int, int, int] = (0, 1, 2)
    """Byte of red, green and blue within a pixel."""


RGB, BGR = PackedLayout(), PackedLayout(channels=(2, 1, 0))


@dataclass(frozen=True)
class Nv12Layout:
    """What the levels of an NV12 frame mean."""

    standard: ColourStandard = "bt709"
    full_range: bool = False


PixelLayout = PackedLayout | Nv12Layout


def pixel_contract(size: tuple[int, int]) -> dict[PixelGraph, GraphSpec]:
    """Inputs and outputs of the graphs, in order.

    Args:
        size: height H and width W of the network's input.
    """
    height, width = size

    def index(name: str, *shape: int | str) -> TensorSpec:
        return TensorSpec(name, "int32", shape)

    def numbers(name: str, *shape: int | str) -> TensorSpec:
        return TensorSpec(name, "float32", shape)

    def levels(name: str, *shape: int | str) -> TensorSpec:
        return TensorSpec(name, "uint8", shape)

    weights = (
        numbers("across_weight", ACROSS, width),
        index("down_index", height, DOWN),
        numbers("down_weight", height, DOWN),
    )
    image = (levels("image", height, width, 3),)
    packed = (levels("frame", ROWS, PITCH), index("across_index", ACROSS, width, 3))
    planes = (
        levels("luma", ROW_PAIRS, 2, PITCH),
        levels("chroma", ROW_PAIRS, CHROMA_PITCH),
        numbers("colours", 3, 4),
        index("luma_index", ACROSS, width),
        index("chroma_index", ACROSS, width, 2),
    )
    return {
        "resize": GraphSpec((*packed, *weights), image),
        "resize_nv12": GraphSpec((*planes, *weights), image),
    }


def pixel_lengths(size: tuple[int, int]) -> dict[str, tuple[int, int, int]]:
    """Least, usual and largest length of each side that is not fixed, to build engines for.

    Args:
        size: height and width of the network's input.
    """
    (height, width), (rows, columns) = size, USUAL_FRAME
    return {
        ROWS: (1, rows, LARGEST_SIDE),
        ROW_PAIRS: (1, rows // 2, LARGEST_SIDE // 2),
        PITCH: (1, 3 * columns, _MOST_PITCH),
        CHROMA_PITCH: (1, columns, _MOST_PITCH),
        ACROSS: (1, most_taps(columns / width), most_taps(LARGEST_SIDE / width)),
        DOWN: (1, most_taps(rows / height), most_taps(LARGEST_SIDE / height)),
    }


def resizable(before: tuple[int, int], size: tuple[int, int], pitch: int) -> bool:
    """Whether the graphs take such a frame.

    Args:
        before: height and width of the frame.
        size: height and width of the image.
        pitch: bytes from one row to the next.
    """
    shrinks = max(a / b for a, b in zip(before, size, strict=True))
    return max(before) <= LARGEST_SIDE and pitch <= _MOST_PITCH and shrinks <= MOST_SHRINKING


def check_resizable(before: tuple[int, int], size: tuple[int, int], pitch: int) -> None:
    """Make sure that the graphs take such a frame; the arguments are those of :func:`resizable`.

    Raises:
        VisoloError: if they do not.
    """
    if not resizable(before, size, pitch):
        raise VisoloError(
            f"a frame of {before[1]}x{before[0]} pixels, its rows {pitch} bytes apart, cannot be "
            f"resized on a GPU: it may have up to {LARGEST_SIDE}x{LARGEST_SIDE}, with rows up to "
            f"{_MOST_PITCH} bytes apart, and shrink up to {MOST_SHRINKING}-fold"
        )


def pixel_graph(layout: PixelLayout) -> PixelGraph:
    """The graph that takes frames of a layout."""
    return "resize" if isinstance(layout, PackedLayout) else "resize_nv12"


@lru_cache(maxsize=16)
def resize_inputs(
    before: tuple[int, int], size: tuple[int, int], layout: PixelLayout = RGB
) -> dict[str, NDArray[Any]]:
    """All inputs of :func:`pixel_graph` but the frame itself. Do not change the arrays.

    Args:
        before: height and width of the frame; even in NV12.
        size: height and width of the image.
        layout: of the frame.

    Raises:
        VisoloError: if a side shrinks too much.
    """
    down, across = (bilinear_taps(a, b) for a, b in zip(before, size, strict=True))
    weights = {
        "across_weight": across.weight.astype(np.float32),
        "down_index": np.ascontiguousarray(down.index.T),
        "down_weight": np.ascontiguousarray(down.weight.T).astype(np.float32),
    }
    pixel = across.index[..., None]
    if isinstance(layout, PackedLayout):
        index = pixel * layout.pixel_bytes + np.array(layout.channels)
        return {"across_index": index.astype(np.int32)} | weights
    matrix = colour_matrix(layout.standard, layout.full_range)
    planes = {
        "colours": matrix.astype(np.float32),
        "luma_index": across.index,
        "chroma_index": (pixel // 2 * 2 + np.arange(2)).astype(np.int32),
    }
    return planes | weights
