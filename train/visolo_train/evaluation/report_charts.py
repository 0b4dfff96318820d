"""The charts of a report, as SVG inside its page. Colours and fonts come from the style sheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Curve:
    """One line of a chart."""

    kind: str
    """Class of the style sheet: ``iou50`` or ``iou75``."""
    heights: NDArray[np.float64]
    """float64 [101], 0 to 1, at 0, .01, ... 1."""


@dataclass(frozen=True)
class _Plot:
    """Position of a chart's axes, in the units of its picture."""

    left: float
    top: float
    width: float
    height: float

    def x(self, value: float) -> float:
        return self.left + self.width * value

    def y(self, value: float) -> float:
        return self.top + self.height * (1 - value)


def precision_recall(curves: Sequence[Curve], title: str) -> str:
    """Precision over recall with both axes named."""
    plot = _Plot(46, 10, 384, 250)
    marks = []
    for tick in _TICKS:
        x, y = plot.x(tick), plot.y(tick)
        marks += [
            f'<path class="grid" d="M{x:g} {plot.top:g}v{plot.height:g}'
            f'M{plot.left:g} {y:g}h{plot.width:g}"/>',
            f'<text x="{x:g}" y="{plot.y(0) + 16:g}" text-anchor="middle">{tick:g}</text>',
            f'<text x="{plot.left - 6:g}" y="{y + 4:g}" text-anchor="end">{tick:g}</text>',
        ]
    middle = plot.y(0.5)
    marks += [
        f'<text x="{plot.x(0.5):g}" y="{plot.y(0) + 34:g}" text-anchor="middle">recall</text>',
        f'<text x="12" y="{middle:g}" text-anchor="middle" transform="rotate(-90 12 {middle:g})">'
        "precision</text>",
    ]
    return _svg(440, 300, title, "".join(marks) + _lines(plot, curves))


def small_precision_recall(curves: Sequence[Curve], title: str) -> str:
    """The same without text, for a grid of many."""
    plot = _Plot(3, 3, 134, 84)
    grid = "".join(
        f"M3 {plot.y(tick):g}h{plot.width:g}M{plot.x(tick):g} 3v{plot.height:g}"
        for tick in (0.0, 0.5, 1.0)
    )
    return _svg(140, 90, title, f'<path class="grid" d="{grid}"/>' + _lines(plot, curves))


def error_curve(values: Sequence[float], top: float, title: str) -> str:
    """Errors over the frames of a clip, from 0 to ``top``."""
    plot = _Plot(3, 3, 234, 84)
    last = max(1, len(values) - 1)
    points = "L".join(
        f"{plot.x(at / last):.1f} {plot.y(value / top):.1f}" for at, value in enumerate(values)
    )
    grid = f"M3 {plot.y(0):g}h{plot.width:g}M3 {plot.y(1):g}h{plot.width:g}"
    return _svg(
        240,
        90,
        title,
        f'<path class="grid" d="{grid}"/><path class="line iou50" d="M{points}"/>',
    )


def bars(values: Sequence[float], title: str) -> str:
    """Any number of values from 0 to 1 as bars side by side, in their order."""
    plot = _Plot(34, 8, 600, 96)
    width = plot.width / max(1, len(values))
    gap = min(2.0, width * 0.2)
    marks = [
        f'<path class="grid" d="M{plot.left:g} {plot.y(tick):g}h{plot.width:g}"/>'
        f'<text x="{plot.left - 6:g}" y="{plot.y(tick) + 4:g}" text-anchor="end">{tick:g}</text>'
        for tick in (0.0, 0.5, 1.0)
    ]
    boxes = "".join(
        f"M{plot.left + at * width:.4g} {plot.y(0):g}v{-max(value * plot.height, 0.5):.3g}"
        f"h{width - gap:.3g}V{plot.y(0):g}z"
        for at, value in enumerate(values)
    )
    return _svg(640, 112, title, "".join(marks) + f'<path class="bars" d="{boxes}"/>')


def _lines(plot: _Plot, curves: Sequence[Curve]) -> str:
    return "".join(
        f'<path class="line {escape(curve.kind)}" d="{_path(plot, curve.heights)}"/>'
        for curve in curves
    )


def _path(plot: _Plot, heights: NDArray[np.float64]) -> str:
    """A path through the points at which the height changes."""
    recall = np.linspace(0, 1, len(heights))
    level = np.zeros(len(heights), bool)
    level[1:-1] = (heights[1:-1] == heights[:-2]) & (heights[1:-1] == heights[2:])
    points = zip(recall[~level].tolist(), heights[~level].tolist(), strict=True)
    return "M" + "L".join(f"{plot.x(x):.1f} {plot.y(y):.1f}" for x, y in points)


def _svg(width: int, height: int, title: str, content: str) -> str:
    name = escape(title)
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{name}">'
        f"<title>{name}</title>{content}</svg>"
    )
