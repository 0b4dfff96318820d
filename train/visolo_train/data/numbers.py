"""Numbers of json entries, read strictly: Python's ``int`` and ``float`` accept too much."""

from __future__ import annotations

import math
from typing import Any


def finite(value: Any, name: str) -> float:
    """A number.

    Args:
        value: as json has it; text such as ``"nan"`` is no number.
        name: of what it is, for the message.

    Raises:
        ValueError: if it is not a finite number.

    >>> finite(2, "score")
    2.0
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"its {name} is {value!r}, which is not a number")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"its {name} is not a finite number")
    return number


def whole(value: Any, name: str) -> int:
    """A whole number; programs also write it as text, or with a decimal point.

    Raises:
        ValueError: if it is none.

    >>> whole("12", "id"), whole(12.0, "id")
    (12, 12)
    """
    if isinstance(value, str):
        return int(value)
    number = finite(value, name)
    if not number.is_integer():
        raise ValueError(f"its {name} is {value!r}, which is not a whole number")
    return int(value)
