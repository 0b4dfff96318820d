"""Json as every file here is read: UTF-8, and each number finite.

Python's parser accepts ``NaN`` and ``Infinity``, which json does not have, and turns a number that
is too large, such as ``1e999``, into infinity. One of them in an area or a score is enough to spoil
a figure without a word.
"""

from __future__ import annotations

import json
import math
from typing import Any


def decode(content: bytes) -> str:
    """The text of a file, with or without a byte order mark.

    Raises:
        ValueError: if it is not UTF-8; the message says what it is.
    """
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise ValueError("it is UTF-16 text: save it as UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 text (byte {error.start}): save it as UTF-8") from error
    # UTF-16 and UTF-32 without a mark are valid UTF-8, with a null before or after each letter.
    if "\0" in text[:4]:
        raise ValueError("it is UTF-16 or UTF-32 text: save it as UTF-8")
    return text


def parse(text: str) -> Any:
    """The value of a json text.

    Raises:
        ValueError: if it is not json, or a number is not finite; the message names its place.
    """
    value, is_finite = parse_any(text)
    if not is_finite:
        raise ValueError(f"{non_finite(value)}, and numbers must be finite")
    return value


def parse_any(text: str) -> tuple[Any, bool]:
    """The value of a json text, and whether all numbers in it are finite.

    Raises:
        ValueError: if it is not json.
    """
    is_finite = True

    def number(digits: str) -> float:
        nonlocal is_finite
        value = float(digits)
        is_finite = is_finite and math.isfinite(value)
        return value

    try:
        return json.loads(text, parse_float=number, parse_constant=number), is_finite
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def non_finite(value: Any) -> str | None:
    """The first number that is not finite, and its place, for a sentence; None if there is none.

    >>> non_finite({"areas": [1.0, float("nan")]})
    'areas[1] is NaN'
    """
    waiting: list[tuple[str, Any]] = [("", value)]
    while waiting:
        place, each = waiting.pop()
        if isinstance(each, dict):
            below = [(f"{place}.{name}" if place else str(name), each[name]) for name in each]
        elif isinstance(each, list):
            below = [(f"{place}[{at}]", item) for at, item in enumerate(each)]
        elif isinstance(each, float) and not math.isfinite(each):
            return f"{place or 'it'} is {'NaN' if math.isnan(each) else 'infinite'}"
        else:
            continue
        waiting.extend(reversed(below))
    return None
