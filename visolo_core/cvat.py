"""CVAT's masks and its XML, version 1.1, of the kind "CVAT for images".

CVAT has no tracks of masks: of a mask in a ``<track>`` it imports the first frame alone. Masks in
an ``<image>`` are imported to the pixel, and shapes of one object share a ``group_id``, which CVAT
keeps, shows in one colour and exports again.

A mask is its box and the lengths of its runs in the box, row by row, the first of zeros.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from numpy.typing import NDArray

from visolo_core.errors import VisoloError
from visolo_core.masks import Masks, mask_box


@dataclass(frozen=True)
class CvatMask:
    """A mask that is not empty."""

    counts: tuple[int, ...]
    """Lengths of runs of zeros, ones, zeros, ... in the box, row by row."""
    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True)
class CvatShape:
    """A mask of an object."""

    label: str
    track_id: int
    mask: CvatMask


@dataclass(frozen=True)
class CvatFrame:
    """A frame with the masks in it."""

    number: int
    """Position in CVAT's task, from 0."""
    name: str
    size: tuple[int, int]
    """Height and width in pixels."""
    shapes: Sequence[CvatShape]


def frame_name(number: int) -> str:
    """What CVAT calls a frame of a video."""
    return f"frame_{number:06}"


def encode_cvat(mask: Masks) -> CvatMask | None:
    """A mask bool [H, W] in CVAT's form; None if it is empty, which CVAT has no form for."""
    box = mask_box(mask)
    if box is None:
        return None
    left, top, right, bottom = box
    pixels = mask[top:bottom, left:right].ravel()
    edges = np.flatnonzero(np.diff(pixels)) + 1
    runs = np.diff(np.concatenate([[0], edges, [pixels.size]])).tolist()
    counts = [0, *runs] if pixels[0] else runs
    return CvatMask(tuple(counts), left, top, right - left, bottom - top)


def decode_cvat(mask: CvatMask) -> Masks:
    """bool [height, width] of the mask's box.

    Raises:
        ValueError: if the run lengths do not cover the box.
    """
    counts: NDArray[np.int64] = np.array(mask.counts, np.int64)
    if min(mask.width, mask.height) <= 0:
        raise ValueError(f"its mask has a box of {mask.width}x{mask.height}")
    # Each count is compared too: their sum may overflow.
    area = mask.width * mask.height
    if (counts < 0).any() or (counts > area).any() or counts.sum() != area:
        raise ValueError(f"its run lengths do not cover its box of {mask.width}x{mask.height}")
    pixels = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return np.asarray(pixels.reshape(mask.height, mask.width), bool)


def annotations_xml(
    name: str, labels: Iterable[str], frames: Iterable[CvatFrame], source: str = "file"
) -> Iterator[str]:
    """The parts of an XML document; each frame is a part.

    Args:
        name: of the task.
        labels: names of all categories.
        frames: in their order.
        source: who drew the shapes: ``manual``, ``auto`` or ``file``.

    Raises:
        VisoloError: if a name has a character that XML has no form for.
    """
    yield '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n'
    yield f"  <meta>\n    <task>\n      <name>{escape(_text(name))}</name>\n      <labels>\n"
    for label in labels:
        yield f"        <label><name>{escape(_text(label))}</name></label>\n"
    yield "      </labels>\n    </task>\n  </meta>\n"
    for frame in frames:
        yield _image(frame, source)
    yield "</annotations>\n"


def _image(frame: CvatFrame, source: str) -> str:
    height, width = frame.size
    parts = [
        f'  <image id="{frame.number}" name={quoteattr(_text(frame.name))} '
        f'width="{width}" height="{height}">\n'
    ]
    for shape in frame.shapes:
        mask = shape.mask
        parts.append(
            f'    <mask label={quoteattr(_text(shape.label))} source="{source}" occluded="0" '
            f'rle="{", ".join(map(str, mask.counts))}" left="{mask.left}" top="{mask.top}" '
            f'width="{mask.width}" height="{mask.height}" z_order="0" '
            f'group_id="{shape.track_id}">\n'
            f'      <attribute name="track_id">{shape.track_id}</attribute>\n    </mask>\n'
        )
    return "".join([*parts, "  </image>\n"])


def _text(text: str) -> str:
    for character in text:
        if ord(character) < 32 or 0xD800 <= ord(character) < 0xE000 or character in "\ufffe\uffff":
            raise VisoloError(f"{text!r} has a character that XML has no form for: rename it")
    return text
