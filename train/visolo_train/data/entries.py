"""Entries of the lists in a json file, read one by one: a faulty one is reported with its place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from visolo_core.json_text import non_finite

Entry = TypeVar("Entry")
_UNUSABLE = (KeyError, TypeError, ValueError, AttributeError, OverflowError, IndexError)


@dataclass(frozen=True)
class EntryReader:
    """Reads lists of entries."""

    on_problem: Callable[[str], None]
    """Called with each entry that cannot be used, and why."""
    is_finite: bool
    """Whether all numbers are finite; otherwise each entry is searched for one that is not."""

    def read(
        self, kind: str, entries: list[Any], read: Callable[[dict[str, Any]], Entry]
    ) -> list[tuple[int, dict[str, Any], Entry]]:
        """The entries that can be used: the place of each, as it is in the file, and as read.

        Args:
            kind: name of the list.
            entries: of the list.
            read: reads one of them.
        """
        usable: list[tuple[int, dict[str, Any], Entry]] = []
        places: dict[str, int] = {}
        for place, entry in enumerate(entries):
            try:
                if not isinstance(entry, dict):
                    raise TypeError("it is not a json object")
                if not self.is_finite and (wrong := non_finite(entry)):
                    raise ValueError(f"its {wrong}")
                value = read(entry)
                number = entry.get("id")
                if isinstance(number, float) and number.is_integer():
                    number = int(number)
                first = place if number is None else places.setdefault(str(number), place)
                if first != place:
                    raise ValueError(f"its id {number} is that of {kind}[{first}] already")
                usable.append((place, entry, value))
            except _UNUSABLE as error:
                what = f"it has no {error}" if isinstance(error, KeyError) else str(error)
                self.on_problem(f"{kind}[{place}] cannot be used: {what}")
        return usable
