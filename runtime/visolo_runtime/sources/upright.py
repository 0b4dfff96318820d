"""Decoded frames as pictures, as they are meant to be seen."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from visolo_runtime.video.frames import Picture


class Upright:
    """Makes pictures of the frames of one stream."""

    def __init__(self) -> None:
        self._rotation: float | None = None
        self._matrix: tuple[int, int, int, int] | None = None

    def picture(self, frame: Any) -> tuple[Picture, bool]:
        """A frame of FFmpeg, turned and mirrored as its display matrix says.

        Colours are converted by the matrix and the range that the frame states, those of an
        interlaced frame field by field.

        Returns:
            uint8 [H, W, 3] RGB, and whether width and height have changed places.
        """
        picture: Picture = frame.to_ndarray(format="rgb24")
        if frame.rotation != self._rotation:
            self._rotation, self._matrix = frame.rotation, _display_matrix(frame)
        if self._matrix is None:
            return picture, False
        # A pixel at (x, y) is shown at (across x + down_across y, across_down x + down y).
        across, across_down, down_across, down = self._matrix
        turned = abs(across_down) > abs(across)
        if turned:
            picture = picture.swapaxes(0, 1)
            across, down = down_across, across_down
        picture = picture[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1]
        return np.ascontiguousarray(picture), turned


def pixel_aspect(stream: Any) -> Fraction:
    """Width of a stream's pixels by their height."""
    return Fraction(stream.sample_aspect_ratio or 1)


def _display_matrix(frame: Any) -> tuple[int, int, int, int] | None:
    """The four numbers that turn and mirror; None if the frame is stored as it is shown.

    Phones store portrait video on its side, and some front cameras mirror it.
    """
    from av.sidedata.sidedata import SideDataContainer

    # A frame that is asked for its side_data refers to itself from then on: it stays, and with it
    # the decoder's threads, until Python collects its garbage.
    container: Any = SideDataContainer
    for side_data in container(frame):
        if side_data.type.name == "DISPLAYMATRIX":
            matrix = np.frombuffer(bytes(side_data), np.int32).reshape(3, 3)
            return int(matrix[0, 0]), int(matrix[0, 1]), int(matrix[1, 0]), int(matrix[1, 1])
    return None
