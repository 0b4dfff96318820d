"""Colours of NV12 frames."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from helpers import Array
from visolo_core.colour import ColourStandard, colour_matrix, nv12_to_rgb
from visolo_core.errors import VisoloError

GREY = np.full((1, 1, 2), 128, np.uint8)


def planes(height: int, width: int) -> tuple[Array, Array]:
    random = np.random.default_rng(height * width)
    luma = random.integers(0, 256, (height, width), np.uint8)
    return luma, random.integers(0, 256, (height // 2, width // 2, 2), np.uint8)


@pytest.mark.parametrize("standard", ["bt601", "bt709"])
@pytest.mark.parametrize(("full_range", "black", "white"), [(False, 16, 235), (True, 0, 255)])
def test_black_and_white(
    standard: ColourStandard, full_range: bool, black: int, white: int
) -> None:
    matrix = colour_matrix(standard, full_range)
    luma = np.array([[black, white], [black, white]], np.uint8)
    assert nv12_to_rgb(luma, GREY, matrix).tolist() == [[[0] * 3, [255] * 3]] * 2


@pytest.mark.parametrize(
    ("standard", "shares"), [("bt601", (0.299, 0.587, 0.114)), ("bt709", (0.2126, 0.7152, 0.0722))]
)
@pytest.mark.parametrize("full_range", [False, True])
def test_the_standards_own_words(
    standard: ColourStandard, shares: tuple[float, float, float], full_range: bool
) -> None:
    """The standards say how luma and chroma come from colours: made that way, they lead back."""
    red, green, blue = shares
    colours = np.random.default_rng(7).integers(0, 256, (500, 3))
    luma = colours @ [red, green, blue]
    by_blue, by_red = (
        (colours[:, channel] - luma) / 2 / (1 - share) for channel, share in ((2, blue), (0, red))
    )
    scale, offset, chroma_scale = (1, 0, 1) if full_range else (219 / 255, 16, 224 / 255)
    exact = np.column_stack(
        [
            luma * scale + offset,
            by_blue * chroma_scale + 128,
            by_red * chroma_scale + 128,
            luma * 0 + 1,
        ]
    )
    # 13 bits, times three levels of up to 255 and an offset of up to 300
    found = exact @ colour_matrix(standard, full_range).T / 2**13
    assert np.abs(found - colours).max() < 0.06


@pytest.mark.parametrize(("standard", "full_range"), [("bt601", False)])
def test_opencv_agrees(standard: ColourStandard, full_range: bool) -> None:
    cv2 = pytest.importorskip("cv2", reason="install opencv-python-headless")
    luma, chroma = planes(64, 96)
    stacked = np.concatenate([luma, chroma.reshape(32, 96)])
    expected = cv2.cvtColor(stacked, cv2.COLOR_YUV2RGB_NV12)
    mine = nv12_to_rgb(luma, chroma, colour_matrix(standard, full_range))
    # OpenCV limits luma to at least 16 first, and its factors are those of BT.601 to 20 bits.
    usual = luma >= 16
    assert np.abs(mine.astype(int) - expected)[usual].max() <= 1


def test_an_unknown_standard() -> None:
    standard: Any = "bt2020"
    with pytest.raises(VisoloError, match="'bt2020' is unknown: choose 'bt601' or 'bt709'"):
        colour_matrix(standard)
