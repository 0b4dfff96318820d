"""What a sequence may set for its own video: a json object that comes with its first frame."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, get_type_hints

from visolo_core.config import InferenceConfig
from visolo_core.errors import VisoloError
from visolo_core.json_text import parse
from visolo_runtime.session.loading import Model

MOST_PIXELS = 7680 * 4320
"""Of a frame, and of the masks that are sent."""
_CLASSES, _MASK_SIZE = "classes", "mask_size"
_TYPES = get_type_hints(InferenceConfig)
_THRESHOLDS = tuple(field.name for field in fields(InferenceConfig))
SETTING_NAMES = (*_THRESHOLDS, _CLASSES, _MASK_SIZE)
"""All settings."""


@dataclass(frozen=True)
class SequenceSettings:
    """How a sequence's video is tracked."""

    model: Model
    """the replica's, with this sequence's thresholds, limits and classes"""
    mask_size: tuple[int, int] | None = None
    """height and width of the masks; None means the frame's own"""


def parse_settings(text: str | None, model: Model) -> SequenceSettings:
    """The settings of a sequence.

    Args:
        text: a json object, such as ``{"score_threshold": 0.3, "classes": ["person"]}``: any of
            the names of :class:`~visolo_core.config.InferenceConfig`, ``classes``, a list of names,
            and ``mask_size``, a height and a width. None or an empty text changes nothing.
        model: the replica's.

    Raises:
        VisoloError: if it is no such object, or a name or a value is wrong.
    """
    values = _object(text or "{}")
    for name in values:
        if name not in SETTING_NAMES:
            raise VisoloError(
                f"setting '{name}' is unknown: choose from {', '.join(SETTING_NAMES)}"
            )
    inference = {name: _number(name, values[name]) for name in _THRESHOLDS if name in values}
    model = replace(model, inference=replace(model.inference, **inference))
    if _CLASSES in values:
        model = model.only(_class_names(values[_CLASSES]))
    return SequenceSettings(model, _size(values[_MASK_SIZE]) if _MASK_SIZE in values else None)


def _object(text: str) -> dict[str, Any]:
    try:
        values = parse(text)
    except ValueError as error:
        raise VisoloError(f"the settings are not json: {error}") from error
    if not isinstance(values, dict):
        raise VisoloError('the settings must be a json object, such as {"score_threshold": 0.3}')
    return values


def _number(name: str, value: Any) -> Any:
    wanted = _TYPES[name]
    fits = isinstance(value, int) or (wanted is float and isinstance(value, float))
    if isinstance(value, bool) or not fits:
        raise VisoloError(f"setting '{name}' needs a number of type {wanted.__name__}")
    try:
        return wanted(value)
    except OverflowError as error:
        raise VisoloError(f"setting '{name}' is too large a number") from error


def _class_names(value: Any) -> str:
    if not (isinstance(value, list) and value and all(isinstance(each, str) for each in value)):
        raise VisoloError(f"setting '{_CLASSES}' needs a list of names, such as [\"person\"]")
    return ",".join(value)


def _size(value: Any) -> tuple[int, int]:
    is_pair = isinstance(value, list) and len(value) == 2
    if not (is_pair and all(type(side) is int and side > 0 for side in value)):
        raise VisoloError(f"setting '{_MASK_SIZE}' needs a height and a width, such as [360, 640]")
    height, width = value
    if height * width > MOST_PIXELS:
        raise VisoloError(f"setting '{_MASK_SIZE}' may name {MOST_PIXELS} pixels at most")
    return height, width
