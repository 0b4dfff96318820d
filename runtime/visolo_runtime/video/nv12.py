"""NV12 frames, as hardware decoders hand them out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visolo_core.colour import ColourStandard, colour_matrix, nv12_to_rgb
from visolo_core.errors import VisoloError
from visolo_core.pixels import Nv12Layout
from visolo_runtime.video.arrays import host_array

_EXPECTED = (
    "an NV12 frame must be luma uint8 [h, w], both even, and chroma uint8 [h/2, w/2, 2] or [h/2, w]"
)
_BT709_FROM = 720
"""Lines from which on videos usually have the colours of BT.709."""


@dataclass(frozen=True)
class Nv12Frame:
    """A frame as luma and chroma planes, both on the host or both on one GPU: arrays of NumPy or of
    any library that shares them through ``__dlpack__`` or ``__cuda_array_interface__``."""

    luma: object
    """uint8 [h, w]"""
    chroma: object
    """uint8 [h / 2, w / 2, 2] or [h / 2, w], blue then red difference"""
    standard: ColourStandard | None = None
    """``bt601`` or ``bt709``; None takes BT.709 from 720 lines on"""
    full_range: bool = False
    """Levels from 0 to 255 as in JPEG rather than luma from 16 to 235."""

    def layout(self, height: int) -> Nv12Layout:
        """What its levels mean, if it has so many lines."""
        usual: ColourStandard = "bt709" if height >= _BT709_FROM else "bt601"
        return Nv12Layout(self.standard or usual, self.full_range)

    def host_planes(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Luma and chroma, on the host.

        Raises:
            VisoloError: if a plane is no array on the host, or their types or shapes are wrong.
        """
        luma, chroma = host_array(self.luma), host_array(self.chroma)
        if luma is None or chroma is None:
            plane = self.luma if luma is None else self.chroma
            raise VisoloError(f"{_EXPECTED}, not a {type(plane).__name__} that is not on the host")
        check_planes(luma.dtype.name, luma.shape, chroma.dtype.name, chroma.shape)
        return luma, chroma

    def as_rgb(self) -> NDArray[np.uint8]:
        """uint8 [h, w, 3], of planes on the host.

        Raises:
            VisoloError: if a plane is no array on the host, or their types or shapes are wrong.
        """
        luma, chroma = self.host_planes()
        height, width = luma.shape
        layout = self.layout(height)
        matrix = colour_matrix(layout.standard, layout.full_range)
        return nv12_to_rgb(luma, chroma.reshape(height // 2, width // 2, 2), matrix)


def check_planes(
    luma_type: str, luma: tuple[int, ...], chroma_type: str, chroma: tuple[int, ...]
) -> tuple[int, int]:
    """Height and width of a frame, by the types and shapes of its planes.

    Raises:
        VisoloError: if they are no planes of one frame.
    """
    if len(luma) == 2 and min(luma) > 0:
        height, width = luma
        shapes = (height // 2, width // 2, 2), (height // 2, width)
        even = height % 2 == width % 2 == 0
        if luma_type == chroma_type == "uint8" and even and chroma in shapes:
            return height, width
    raise VisoloError(f"{_EXPECTED}, not {luma_type} {list(luma)} and {chroma_type} {list(chroma)}")
