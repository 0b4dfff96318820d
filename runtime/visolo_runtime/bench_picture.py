"""A picture of a measurement: a bar of stages for each model, and time over the frames."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from visolo_core.files import replaced
from visolo_runtime.bench import ALL_STAGES, Measured

_WIDTH, _MARGIN, _BAR, _CURVES = 1100, 28, 34, 240
_INK, _PALE = (30, 34, 40), (222, 226, 232)
_COLOURS = dict(
    zip(
        ALL_STAGES,
        (
            (148, 163, 184), (100, 181, 246), (37, 99, 235),
            (250, 204, 21), (16, 150, 110), (244, 143, 66), (219, 68, 85), (139, 92, 246),
            (120, 120, 120), (236, 160, 200),
        ),
        strict=True,
    )
)  # fmt: skip
_LINES = ((37, 99, 235), (219, 68, 85), (16, 150, 110), (139, 92, 246))


def draw_measurement(measured: Sequence[Measured], title: str, path: Path) -> None:
    """Draw a measurement and write it as a PNG file.

    Args:
        measured: one per model; short names fit best.
        title: what was run.
        path: of the PNG file.
    """
    height = 150 + len(measured) * (_BAR + 38) + _CURVES + 90
    picture = Image.new("RGB", (_WIDTH, height), "white")
    draw = ImageDraw.Draw(picture)
    draw.text((_MARGIN, 18), title, _INK, _font(20))
    top = _bars(draw, measured, 60)
    top = _legend(draw, measured, top)
    _curves(draw, measured, top + 24)
    with replaced(path) as temporary:
        picture.save(temporary, format="PNG")


def _bars(draw: ImageDraw.ImageDraw, measured: Sequence[Measured], top: int) -> int:
    longest = max(sum(each.stage_ms().values()) for each in measured)
    scale = (_WIDTH - 2 * _MARGIN) / longest
    for each in measured:
        text = (
            f"{each.name} ({each.description}, {each.precision}): {each.fps:.1f} FPS, "
            f"p50 {each.percentile(50):.1f}, p90 {each.percentile(90):.1f}, "
            f"p99 {each.percentile(99):.1f} ms"
        )
        draw.text((_MARGIN, top), text, _INK, _font(14))
        left = float(_MARGIN)
        for stage, spent in each.stage_ms().items():
            right = left + spent * scale
            if spent:
                draw.rectangle((left, top + 22, right, top + 22 + _BAR), _COLOURS[stage])
            left = right
        top += _BAR + 38
    return top


def _legend(draw: ImageDraw.ImageDraw, measured: Sequence[Measured], top: int) -> int:
    left = _MARGIN
    for stage in ALL_STAGES:
        spent = [each.stage_ms()[stage] for each in measured]
        if not any(spent):
            continue
        text = f"{stage} " + " / ".join(f"{ms:.2f}" for ms in spent)
        width = int(draw.textlength(text, _font(13))) + 34
        if left + width > _WIDTH - _MARGIN:
            left, top = _MARGIN, top + 22
        draw.rectangle((left, top + 3, left + 12, top + 15), _COLOURS[stage])
        draw.text((left + 18, top), text, _INK, _font(13))
        left += width
    return top + 26


def _curves(draw: ImageDraw.ImageDraw, measured: Sequence[Measured], top: int) -> None:
    draw.text((_MARGIN, top), "ms of each frame, median of the rounds", _INK, _font(14))
    left, right, top = _MARGIN + 44, _WIDTH - _MARGIN, top + 26
    bottom = top + _CURVES
    highest = 1.1 * max(max(each.by_position()) for each in measured)
    for part in range(5):
        y = bottom - part / 4 * _CURVES
        draw.line((left, y, right, y), _PALE)
        draw.text((_MARGIN, y - 8), f"{highest * part / 4:.3g}", _INK, _font(12))
    for number, each in enumerate(measured):
        series = each.by_position()
        step = (right - left) / max(1, len(series) - 1)
        points = [
            (left + at * step, bottom - ms / highest * _CURVES) for at, ms in enumerate(series)
        ]
        colour = _LINES[number % len(_LINES)]
        draw.line(points, colour, 2)
        draw.text((left + 8 + 200 * number, bottom + 8), each.name, colour, _font(14))


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
