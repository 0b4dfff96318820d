"""What contradicts itself in an annotation file although each entry can be read: numbers that are
stated twice and differ, and things that are there twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
from typing import Any

from visolo_core.categories import LabelSet, plain_name

_PER_FRAME = ("bboxes", "areas")


def category_doubts(labels: LabelSet) -> Iterator[str]:
    """Categories that cannot be told apart by their names."""
    for name, count in Counter(map(plain_name, labels.names)).items():
        if count > 1:
            yield f"{count} categories are named '{name}': give each a name of its own"


def video_doubts(entry: dict[str, Any]) -> Iterator[str]:
    """Contradictions in a video of YouTube-VIS."""
    names = entry["file_names"]
    if entry.get("length") not in (None, len(names)):
        yield f"its length is {entry['length']}, but it has {len(names)} file_names"
    for name, count in Counter(names).items():
        if count > 1:
            yield f"it has the frame '{name}' {count} times"


def track_doubts(entry: dict[str, Any], height: int, width: int, frames: int) -> Iterator[str]:
    """Contradictions between an annotation of YouTube-VIS and its video, of which height and width
    in pixels and the number of frames are given."""
    for name in _PER_FRAME:
        listed = entry.get(name)
        if isinstance(listed, list) and len(listed) != frames:
            yield f"it has {len(listed)} {name} for {frames} frames"
    stated = {"height": height, "width": width, "length": frames}
    for name, value in stated.items():
        if entry.get(name) not in (None, value):
            yield f"its {name} is {entry[name]}, that of its video is {value}"


def twin_doubts(kind: str, contents: Iterable[tuple[int, Hashable | None]]) -> Iterator[str]:
    """Entries that have what an entry before them has.

    Args:
        kind: name of their list.
        contents: the place of each entry and what must not be there twice; None may be.
    """
    places: dict[Hashable, int] = {}
    for place, content in contents:
        first = place if content is None else places.setdefault(content, place)
        if first != place:
            yield f"{kind}[{place}] is the same as {kind}[{first}]: remove one of them"
