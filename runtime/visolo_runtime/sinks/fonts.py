"""Fonts for labels in any script: Pillow's own where it has the characters, and the system's.

A label may need several, since a font for Thai, say, need not have digits. Where no font has a
character, a question mark stands for it, and :func:`missing_fonts` says what to install.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from itertools import groupby
from pathlib import Path

from PIL import ImageFont, features

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
DEFAULT = ""
"""Stands for the font in Pillow."""
REPLACEMENT = "?"

_NO_CHARACTER = "\U0010fffe"  # every font shows it as it shows what it lacks
_TEST_SIZE = 16
_EAST_ASIAN = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO", "YI")
_PLAIN = re.compile(r"bold|italic|oblique|light|thin|mono|serif|condensed|black|medium|fallback")


def font(path: str, size: int) -> Font:
    """The font in a file, or Pillow's own."""
    return _default(size) if path == DEFAULT else _opened(path, size)


def in_fonts(text: str) -> list[tuple[str, str]]:
    """A text in parts that one font each can show: the font's path and the part.

    >>> in_fonts("#1 disc")
    [('', '#1 disc')]
    """
    characters = list[tuple[str, str]]()
    for each in unicodedata.normalize("NFC", text):
        path = _font_of(each) if _is_drawn(each) else None
        if path is None and _is_drawn(each):
            characters.append((DEFAULT, REPLACEMENT))
        elif path is None:  # a mark or a joiner, which belongs to the character before it
            characters.append((characters[-1][0] if characters else DEFAULT, each))
        else:
            characters.append((path, each))
    parts = groupby(_spaces_between(characters), key=lambda pair: pair[0])
    return [(path, "".join(each for _, each in part)) for path, part in parts]


def missing_fonts(labels: Iterable[str]) -> str | None:
    """What to install so that all labels can be drawn; None if nothing is missing."""
    labels = list(labels)
    lacking = [label for label in labels if any(map(_is_lacking, label))]
    if lacking:
        wanted = {_package(each) for label in lacking for each in label if _is_lacking(each)}
        return (
            f"no font of this system has all characters of {_listed(lacking)}, which the annotated "
            f"video shows as '{REPLACEMENT}': install {' and '.join(sorted(wanted))} (the names of "
            "Debian's packages)"
        )
    unshaped = [label for label in labels if any(map(_needs_shaping, label))]
    if unshaped and not _can_shape():
        return (
            f"the letters of {_listed(unshaped)} are not joined in the annotated video, since this "
            "Pillow has no Raqm or finds no FriBiDi: install Pillow from PyPI, and libfribidi0"
        )
    return None


def _spaces_between(characters: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Give the spaces inside a part to its font: words of a script are laid out together."""
    given = list(characters)
    for at, (_, each) in enumerate(characters):
        if each != " ":
            continue
        before = given[at - 1][0] if at else DEFAULT
        after = next((path for path, other in characters[at:] if other != " "), DEFAULT)
        given[at] = (before if before == after else DEFAULT, each)
    return given


def _is_drawn(character: str) -> bool:
    """Whether it has a shape of its own."""
    return unicodedata.category(character) not in ("Mn", "Me", "Cf", "Cc")


def _is_lacking(character: str) -> bool:
    return _is_drawn(character) and _font_of(character) is None


def _needs_shaping(character: str) -> bool:
    name = unicodedata.name(character, "")
    return unicodedata.bidirectional(character) in ("R", "AL") or "VOWEL SIGN" in name


def _can_shape() -> bool:
    return bool(features.check("raqm") and features.check("fribidi"))


def _package(character: str) -> str:
    is_east_asian = unicodedata.name(character, "").startswith(_EAST_ASIAN)
    return "fonts-noto-cjk" if is_east_asian else "fonts-noto-core"


def _listed(labels: list[str]) -> str:
    shown = ", ".join(f"'{label}'" for label in labels[:3])
    return shown + (f" and {len(labels) - 3} other labels" if len(labels) > 3 else "")


@lru_cache(maxsize=4096)
def _font_of(character: str) -> str | None:
    """Path of the first font that has a character; None if none does."""
    if character == " ":
        return DEFAULT
    if _has(_default(_TEST_SIZE), character):
        return DEFAULT
    # Characters of a label mostly come from one font: the last ones that were of use come first.
    for path in [*_used, *(each for each in _files() if each not in _used)]:
        try:
            opened = ImageFont.truetype(path, _TEST_SIZE, layout_engine=ImageFont.Layout.BASIC)
            has_it = _has(opened, character)
        except (OSError, ValueError):  # of another kind, such as pictures of one size
            continue
        if has_it:
            if path not in _used:
                _used.append(path)
            return path
    return None


_used: list[str] = []  # fonts that some label has needed


def _has(opened: Font, character: str) -> bool:
    shape, none = opened.getmask(character), opened.getmask(_NO_CHARACTER)
    return (shape.size, bytes(shape)) != (none.size, bytes(none))


@lru_cache(maxsize=1)
def _files() -> tuple[str, ...]:
    """The system's fonts, plain ones without serifs first."""
    files = [
        file
        for folder in folders()
        for file in folder.rglob("*")
        if file.suffix.lower() in (".ttf", ".otf", ".ttc")
    ]
    files.sort(key=lambda file: (len(_PLAIN.findall(file.stem.lower())), str(file)))
    return tuple(map(str, files))


def folders() -> list[Path]:
    """Where systems keep their fonts."""
    places = [
        Path("/usr/share/fonts"), Path("/usr/local/share/fonts"),
        Path("/Library/Fonts"), Path("/System/Library/Fonts"),
        Path(os.environ.get("WINDIR", r"C:\Windows")) / "Fonts",
    ]  # fmt: skip
    try:
        places += [Path.home() / ".local/share/fonts", Path.home() / ".fonts"]
        places.append(Path.home() / "Library/Fonts")
    except RuntimeError:  # a user without a home
        pass
    return [place for place in places if place.is_dir()]


@lru_cache(maxsize=4)
def _default(size: int) -> Font:
    return ImageFont.load_default(size)


@lru_cache(maxsize=16)
def _opened(path: str, size: int) -> Font:
    return ImageFont.truetype(path, size)
