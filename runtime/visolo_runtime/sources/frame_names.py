"""Frames and videos by their names: which files are some, and which numbers are missing.

Frames are named as FFmpeg names them: by a folder, a pattern such as ``%05d.png``, or wildcards.
"""

from __future__ import annotations

import glob
import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from visolo_core.errors import VisoloError

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
VIDEO_SUFFIXES = {
    ".3gp", ".asf", ".avi", ".flv", ".gif", ".h264", ".hevc", ".m2ts", ".m4v", ".mjpeg", ".mkv",
    ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv", ".y4m",
}  # fmt: skip
_NUMBER = re.compile(r"%%|%(?:0([0-9]{1,2}))?d")
_WILDCARD = re.compile(r"[*?[]")


def is_picture(path: Path) -> bool:
    """Whether a name is that of a picture; macOS's ``._1.jpg`` and other hidden files are none."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def is_video(path: Path) -> bool:
    """Whether a name is that of a video, and not hidden."""
    return path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".")


def is_pattern(source: str) -> bool:
    """Whether a source that does not exist may stand for several files."""
    return bool(_WILDCARD.search(source)) or _has_number(Path(source).name)


def matching(source: str) -> list[Path]:
    """The files that a pattern stands for, hidden ones left out, in no order.

    Args:
        source: a path whose name has one number, such as ``%05d`` or ``%d``, or one with wildcards
            as in a shell: ``*``, ``?`` and ``[0-9]``.

    Raises:
        VisoloError: if the name has two numbers, or its folder does not exist.
    """
    path = Path(source)
    if not _has_number(path.name):
        names = glob.glob(source)  # noqa: PTH207, Path.glob refuses some patterns
        return [file for name in names if (file := Path(name)).is_file()]
    if not path.parent.is_dir():
        raise VisoloError(f"there is no folder '{path.parent}' with frames '{path.name}'")
    pattern, width = _expression(path.name)
    files = []
    for file in path.parent.iterdir():
        match = pattern.fullmatch(file.name)
        # FFmpeg pads a number to its width and no further.
        if match and len(match[1]) == max(width, len(match[1].lstrip("0") or "0")):
            files.append(file)
    return [file for file in files if file.is_file()]


def missing_numbers(names: Sequence[str]) -> str | None:
    """A sentence about the gaps in numbered names; None if there is no gap.

    Names are numbered if they differ in their last number only. The usual step may be any: every
    fifth frame of a video has no gap.

    Args:
        names: of the frames, in order.

    >>> missing_numbers(["a1.png", "a2.png", "a3.png", "a7.png"])
    "3 frames are missing between 'a3.png' and 'a7.png'"
    >>> missing_numbers(["00000.jpg", "00005.jpg", "00010.jpg"])
    """
    missing = missing_after(names)
    gaps = [place for place, count in enumerate(missing) if count]
    if not gaps:
        return None
    longest = max(gaps, key=lambda place: missing[place])
    where = f"between '{names[longest]}' and '{names[longest + 1]}'"
    total = sum(missing)
    frames = "1 frame is missing" if total == 1 else f"{total} frames are missing"
    if len(gaps) == 1:
        return f"{frames} {where}"
    return f"{frames} in {len(gaps)} gaps, the longest of {missing[longest]} {where}"


def missing_after(names: Sequence[str]) -> list[int]:
    """How many numbers are missing between each name and the next, as in :func:`missing_numbers`.

    >>> missing_after(["a1.png", "a2.png", "a3.png", "a7.png"])
    [0, 0, 3]
    """
    none = [0] * (len(names) - 1)
    parts = [re.fullmatch(r"(.*?)([0-9]+)[^0-9]*", Path(name).stem, re.DOTALL) for name in names]
    numbered = [part for part in parts if part is not None]
    if len(numbered) != len(names) or len({part[1] for part in numbered}) != 1:
        return none
    numbers = [int(part[2]) for part in numbered]
    steps = [after - before for before, after in pairwise(numbers)]
    forward = Counter(step for step in steps if step > 0)
    if not forward:
        return none
    usual = min(forward, key=lambda step: (-forward[step], step))
    # Names that are times have steps a little over the usual one, without a gap.
    return [max(0, round(step / usual) - 1) for step in steps]


def _has_number(name: str) -> bool:
    return any(match[0] != "%%" for match in _NUMBER.finditer(name))


def _expression(name: str) -> tuple[re.Pattern[str], int]:
    """The expression of the names that a pattern stands for, and the width of their number."""
    text, width, end = "", 1, 0
    for match in _NUMBER.finditer(name):
        text += re.escape(name[end : match.start()])
        text += "%" if match[0] == "%%" else "([0-9]+)"
        width = max(width, int(match[1] or 1))
        end = match.end()
    pattern = re.compile(text + re.escape(name[end:]), re.DOTALL)
    if pattern.groups != 1:
        raise VisoloError(f"'{name}' has {pattern.groups} numbers: a name of frames has one")
    return pattern, width
