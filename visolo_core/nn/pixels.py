"""Graphs that make the network's image of a frame as it came, to the last bit like Pillow.

Where a GPU decodes or receives frames, resizing them there spares the host its slowest task and
the image a way up. :mod:`visolo_core.resampling` says why these sums are exact in float32.

Rows come first, then columns, as on the host. A frame is taken as bytes, and what goes in says
which: so rows may be padded, pixels may be four bytes wide, and channels lie in any order, with one
graph for all. TensorRT makes one kernel of everything from the cast to the sums of a pass, hence
nothing as large as the frame is written.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from visolo_core.colour import COLOUR_BITS
from visolo_core.pixels import PixelGraph
from visolo_core.resampling import LOW_BITS, WEIGHT_BITS


class ResizeGraph(nn.Module):
    """A frame of packed pixels -> the network's image."""

    def forward(
        self,
        frame: Tensor,
        across_index: Tensor,
        across_weight: Tensor,
        down_index: Tensor,
        down_weight: Tensor,
    ) -> Tensor:
        """Shapes and meaning: see ``visolo_core.pixels``."""
        levels = _take(frame.float(), 1, across_index)
        rows = _weighted(levels, across_weight[:, :, None])
        return _down(rows, down_index, down_weight)


class ResizeNv12Graph(nn.Module):
    """Planes of luma and chroma -> the network's image.

    The colours of every tap are computed anew, two or three times for each pixel of the frame: it
    is cheaper than to write them to memory and read them again.
    """

    def forward(
        self,
        luma: Tensor,
        chroma: Tensor,
        colours: Tensor,
        luma_index: Tensor,
        chroma_index: Tensor,
        across_weight: Tensor,
        down_index: Tensor,
        down_weight: Tensor,
    ) -> Tensor:
        """Shapes and meaning: see ``visolo_core.pixels``."""
        grey = _take(luma.float(), 2, luma_index)[..., None]  # [h/2, 2, K, W, 1]
        pairs = _take(chroma.float(), 1, chroma_index)[:, None]  # [h/2, 1, K, W, 2]
        shared = pairs[..., :1] * colours[:, 1] + pairs[..., 1:] * colours[:, 2] + colours[:, 3]
        half = float(1 << (COLOUR_BITS - 1))
        levels = _levels(_shifted(grey * colours[:, 0] + shared + half, COLOUR_BITS))
        rows = _weighted(levels.flatten(0, 1), across_weight[:, :, None])
        return _down(rows, down_index, down_weight)


def _down(rows: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """[h, W, 3] -> uint8 [H, W, 3]"""
    # [H, K, W, 3]: the axis of the sum is not the last one, so that neighbours are read together.
    image = _weighted(_take(rows, 0, index), weight[:, :, None, None])
    return image.to(torch.uint8)


def _take(values: Tensor, axis: int, index: Tensor) -> Tensor:
    """The values at ``index`` along an axis; the axes of the index take its place."""
    chosen = values.index_select(axis, index.flatten())
    return chosen.reshape(*values.shape[:axis], *index.shape, *values.shape[axis + 1 :])


def _weighted(levels: Tensor, weight: Tensor) -> Tensor:
    """Sums along the second axis, rounded to grey levels. Exact: Pillow's sums of integers."""
    high = _shifted(weight + float(1 << (LOW_BITS - 1)), LOW_BITS)
    low = weight - high * float(1 << LOW_BITS)
    high_sum, low_sum = (levels * high).sum(dim=1), (levels * low).sum(dim=1)
    half = float(1 << (WEIGHT_BITS - LOW_BITS - 1))
    carried = high_sum + _shifted(low_sum, LOW_BITS) + half
    return _levels(_shifted(carried, WEIGHT_BITS - LOW_BITS))


def _shifted(values: Tensor, bits: int) -> Tensor:
    """Integers shifted to the right; exact, since the divisor is a power of two."""
    return (values * 0.5**bits).floor()


def _levels(values: Tensor) -> Tensor:
    return values.clamp(0, 255)


def pixel_modules() -> dict[PixelGraph, nn.Module]:
    """The graphs by name. They have no weights."""
    return {"resize": ResizeGraph(), "resize_nv12": ResizeNv12Graph()}
