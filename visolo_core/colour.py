"""Colours as video decoders hand them out: NV12, luma of every pixel and chroma of every fourth.

A block of two by two pixels shares its chroma, without interpolation: so do OpenCV and ffmpeg's
default conversion of a frame that keeps its size. The matrices are rounded to 13 bits after the
point, which moves a colour by less than a twentieth of a grey level and lets float32 add exactly.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from visolo_core.errors import VisoloError

ColourStandard = Literal["bt601", "bt709"]
"""BT.601 is the usual one for small videos, BT.709 from 720 lines on."""
COLOUR_BITS = 13
"""Bits after the point in a colour matrix."""
_LUMA_SHARES: dict[ColourStandard, tuple[float, float]] = {
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
}  # of red and blue


def colour_matrix(standard: ColourStandard, full_range: bool = False) -> NDArray[np.int32]:
    """int32 [3, 4]: red, green and blue from luma, both chromas and 1, times ``2**13``.

    Args:
        standard: which.
        full_range: levels go from 0 to 255, as in JPEG; if not, luma from 16 to 235 and chroma from
            16 to 240, as in most videos.

    Raises:
        VisoloError: if the standard is unknown.
    """
    if standard not in get_args(ColourStandard):
        raise VisoloError(f"colour standard '{standard}' is unknown: choose 'bt601' or 'bt709'")
    red, blue = _LUMA_SHARES[standard]
    green = 1 - red - blue
    luma, chroma, black = (1.0, 1.0, 0) if full_range else (255 / 219, 255 / 224, 16)
    from_blue, from_red = 2 * (1 - blue) * chroma, 2 * (1 - red) * chroma
    linear = np.array(
        [
            [luma, 0, from_red],
            [luma, -from_blue * blue / green, -from_red * red / green],
            [luma, from_blue, 0],
        ]
    )
    scaled = np.rint(linear * (1 << COLOUR_BITS))
    return np.column_stack([scaled, scaled @ [-black, -128, -128]]).astype(np.int32)


def nv12_to_rgb(
    luma: NDArray[np.uint8], chroma: NDArray[np.uint8], matrix: NDArray[np.int32]
) -> NDArray[np.uint8]:
    """uint8 [h, w, 3] RGB of an NV12 frame.

    Args:
        luma: [h, w], both sides even.
        chroma: [h / 2, w / 2, 2].
        matrix: of :func:`colour_matrix`.
    """
    shared = chroma.astype(np.int32) @ matrix[:, 1:3].T + matrix[:, 3]
    every = shared.repeat(2, axis=0).repeat(2, axis=1)
    sums = luma[..., None].astype(np.int32) * matrix[:, 0] + every + (1 << (COLOUR_BITS - 1))
    colours: NDArray[np.uint8] = np.clip(sums >> COLOUR_BITS, 0, 255).astype(np.uint8)
    return colours
