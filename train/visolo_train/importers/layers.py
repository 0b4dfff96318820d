"""Shapes that cover one another: what lies behind is cut."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from visolo_core.masks import decode_rle, encode_rle
from visolo_train.importers.frames import AnnotatedFrame, AnnotatedShape


def cut_covered(frame: AnnotatedFrame) -> AnnotatedFrame:
    """Every shape without the pixels of shapes in higher layers; those of one layer overlap on."""
    if len({shape.layer for shape in frame.shapes}) < 2:
        return frame
    masks = [decode_rle(shape.mask) for shape in frame.shapes]
    shapes: list[AnnotatedShape] = []
    for shape, mask in zip(frame.shapes, masks, strict=True):
        above = [m for s, m in zip(frame.shapes, masks, strict=True) if s.layer > shape.layer]
        covered = np.logical_or.reduce(above) if above else np.zeros_like(mask)
        shapes.append(replace(shape, mask=encode_rle(mask & ~covered)))
    return replace(frame, shapes=tuple(shapes))
