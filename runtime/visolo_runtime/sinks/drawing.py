"""Drawing instances over a frame, with NumPy and Pillow.

Each track has a fixed colour: the hue steps around the colour circle by the golden angle, so that
consecutive track numbers get clearly different colours.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from visolo_core.instances import Instances
from visolo_core.masks import mask_box, resize_masks
from visolo_runtime.sinks.fonts import Font, font, in_fonts

_GOLDEN_RATIO = 0.618033988749895
_OPACITY = 0.45
_PADDING = 2
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class _Anchor:
    """Where to put the label of an instance."""

    index: int
    middle: tuple[int, int]  # x, y
    colour: Colour


def track_colour(track_id: int) -> Colour:
    """RGB of a track; the same number always gives the same colour."""
    hue = track_id * _GOLDEN_RATIO % 1
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.75, 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)


def draw_instances(frame: NDArray[np.uint8], instances: Instances) -> NDArray[np.uint8]:
    """A copy of the frame with masks, outlines, and a label for each instance.

    Args:
        frame: uint8 [H, W, 3] RGB.
        instances: of that frame.
    """
    picture = frame.copy()
    size = frame.shape[0], frame.shape[1]
    masks = instances.masks
    if instances.size != size:
        masks = resize_masks(instances.input_masks, size)
    line = max(1, round(min(size) / 300))
    anchors: list[_Anchor] = []
    # The best instance is drawn last, on top.
    for index in reversed(range(len(instances))):
        box = mask_box(masks[index])
        if box is None:
            continue
        # A margin around the mask, so that its outermost pixels count as its edge.
        left, top = max(0, box[0] - line), max(0, box[1] - line)
        right, bottom = box[2] + line, box[3] + line
        colour = track_colour(int(instances.tracker_id[index]))
        _tint(picture[top:bottom, left:right], masks[index][top:bottom, left:right], colour, line)
        rows, columns = np.nonzero(masks[index][top:bottom, left:right])
        middle = left + int(np.median(columns)), top + int(np.median(rows))
        anchors.append(_Anchor(index, middle, colour))
    return _write_labels(picture, instances, anchors)


def _tint(region: NDArray[np.uint8], mask: NDArray[np.bool_], colour: Colour, line: int) -> None:
    """Lay a colour over the masked part of a region [h, w, 3], and a line along its inner edge."""
    edge = mask & ~_eroded(mask, line)
    levels = np.arange(256)
    for channel, level in enumerate(colour):
        blended = (levels * (1 - _OPACITY) + level * _OPACITY).astype(np.uint8)
        plane = region[..., channel]
        np.copyto(plane, blended[plane], where=mask)
        plane[edge] = level


def _eroded(mask: NDArray[np.bool_], line: int) -> NDArray[np.bool_]:
    """The pixels of a mask [h, w] at least ``line`` pixels away from its outside, in four
    directions."""
    inner = mask.copy()
    for step in range(1, line + 1):
        inner[step:] &= mask[:-step]
        inner[:-step] &= mask[step:]
        inner[:, step:] &= mask[:, :-step]
        inner[:, :-step] &= mask[:, step:]
    return inner


def _write_labels(
    picture: NDArray[np.uint8], instances: Instances, anchors: list[_Anchor]
) -> NDArray[np.uint8]:
    """Write each label in the middle of its mask, or below another label that is already there."""
    height, width = picture.shape[:2]
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    font_size = max(10, round(min(height, width) / 28))
    placed: list[tuple[float, float, float, float]] = []
    for anchor in reversed(anchors):  # the best instance is placed first
        each = instances[anchor.index]
        text = f"#{each.track_id} {each.track_label} {each.score:.2f}"
        line = _Line(text, font_size)
        x0, y0, x1, y1 = line.box
        tag = x1 - x0 + 2 * _PADDING, y1 - y0 + 2 * _PADDING
        x, y = _free_place(anchor.middle, tag, (width, height), placed)
        placed.append((x, y, x + tag[0], y + tag[1]))
        draw.rectangle((x, y, x + tag[0] - 1, y + tag[1] - 1), fill=anchor.colour)
        ink = _readable_on(anchor.colour)
        line.draw(draw, (x + _PADDING - x0, y + _PADDING - y0), ink)
    return np.asarray(image)


class _Line:
    """A line of text in one font or several, side by side on one base line.

    Args:
        text: to show.
        size: of the fonts, in pixels.
    """

    def __init__(self, text: str, size: int) -> None:
        self._parts: list[tuple[float, str, Font]] = []
        boxes = []
        at = 0.0
        for path, part in in_fonts(text):
            face = font(path, size)
            x0, y0, x1, y1 = face.getbbox(part, anchor="ls")
            boxes.append((at + x0, y0, at + x1, y1))
            self._parts.append((at, part, face))
            at += face.getlength(part)
        left, top, right, bottom = zip(*boxes, strict=True)
        self.box = min(left), min(top), max(right), max(bottom)
        """Left, top, right and bottom of what is drawn, from the beginning of the base line."""

    def draw(self, draw: ImageDraw.ImageDraw, begin: tuple[float, float], ink: str) -> None:
        """Draw it with its base line beginning at x, y."""
        for at, part, face in self._parts:
            draw.text((begin[0] + at, begin[1]), part, fill=ink, font=face, anchor="ls")


def _free_place(
    middle: tuple[int, int],
    tag: tuple[float, float],
    frame: tuple[int, int],
    placed: list[tuple[float, float, float, float]],
) -> tuple[float, float]:
    """Top left corner x, y for a tag (width, height) around a point in a frame (width, height)."""
    x = max(0, min(middle[0] - tag[0] / 2, frame[0] - tag[0]))
    first = y = max(0, min(middle[1] - tag[1] / 2, frame[1] - tag[1]))
    while y + tag[1] <= frame[1]:
        below = [
            bottom
            for left, top, right, bottom in placed
            if left < x + tag[0] and x < right and top < y + tag[1] and y < bottom
        ]
        if not below:
            return x, y
        y = max(below)
    return x, first  # no free place below: overlapping is better than leaving the frame


def _readable_on(colour: Colour) -> str:
    red, green, blue = colour
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "white"
