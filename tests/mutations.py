"""Damaged versions of valid files, from a random generator: of their bytes, of the values and the
shape of json, of the numbers and words of text, and inside archives and safetensors headers.
"""

from __future__ import annotations

import copy
import io
import json
import re
import zipfile
from collections.abc import Callable
from random import Random
from typing import Any

Mutation = Callable[[bytes, Random], bytes]

_NUMBERS: tuple[Any, ...] = (
    0, -1, 1, 2, 3, 255, 65536, 2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**63, 2**64, 10**30, 10**400,
    -(2**63), 0.5, 1.5, -0.0, 1e-320, 1e9, 1e308, float("nan"), float("inf"), float("-inf"),
)  # fmt: skip
_WORDS: tuple[Any, ...] = (
    "", " ", "nan", "inf", "1", "-1", "a" * 3000, "../a", "/etc/passwd", "a/../b", "\0", "\ud800",
    "é\u202e", "[[", "%s{0}", "0" * 5000, "9" * 5000, "1e999", ".", "con:", "frame_000000.png",
)  # fmt: skip
_OTHERS: tuple[Any, ...] = (
    None,
    True,
    False,
    [],
    {},
    [[]],
    [{}],
    {"": 0},
    [None],
    [0],
    [[1, 2, 3]],
)
_BYTES = (b"\0", b"\xff", b"\xef\xbb\xbf", b"NaN", b"1e999", b"9" * 400, b"[" * 2000, b"\r", b'"')
_TEXT_WORD = re.compile(r"-?\d+(?:\.\d+)?|\w+")


def bytes_changed(content: bytes, random: Random) -> bytes:
    """Some bytes flipped, cut out, repeated, put in, or the end cut off."""
    data = bytearray(content)
    for _ in range(random.choice((1, 1, 2, 5, 20))):
        at = random.randrange(len(data) + 1)
        length = random.choice((1, 1, 4, 16, 200))
        kind = random.randrange(6)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << random.randrange(8)
        elif kind == 1:
            del data[at : at + length]
        elif kind == 2:
            data[at:at] = data[at : at + length]
        elif kind == 3:
            data[at:at] = random.choice(_BYTES)
        elif kind == 4:
            data[at : at + length] = random.randbytes(min(length, 16))
        elif random.random() < 0.2:
            del data[at:]
    return bytes(data)


def json_changed(content: bytes, random: Random) -> bytes:
    """Values of other kinds and sizes, entries left out, repeated or exchanged."""
    document = json.loads(content)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        document = _changed_somewhere(document, random)
    return json.dumps(document).encode()


def text_changed(content: bytes, random: Random) -> bytes:
    """Numbers and words exchanged, and lines left out, repeated or moved."""
    text = content.decode()
    for _ in range(random.choice((1, 1, 2, 4))):
        if random.random() < 0.25:
            lines = text.splitlines(keepends=True)
            at = random.randrange(len(lines) or 1)
            line = lines[at : at + 1]
            where = random.choice((at, random.randrange(len(lines) + 1)))
            lines[at : at + 1] = []
            lines[where:where] = line * random.choice((0, 1, 2))
            text = "".join(lines)
            continue
        words = list(_TEXT_WORD.finditer(text))
        if words:
            word = random.choice(words)
            text = text[: word.start()] + _other_word(word[0], words, random) + text[word.end() :]
    return text.encode("utf-8", "replace")


def safetensors_changed(content: bytes, random: Random) -> bytes:
    """Another header before the same tensors, or a header within the header."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    inner = header.get("__metadata__", {})
    if "visolo" in inner and random.random() < 0.6:
        inner["visolo"] = json_changed(inner["visolo"].encode(), random).decode()
    else:
        header = _changed_somewhere(header, random)
    written = json.dumps(header).encode()
    length = len(written) if random.random() < 0.9 else random.choice((0, 1, 2**31, 2**63))
    return length.to_bytes(8, "little") + written + content[8 + length :]


def zip_changed(content: bytes, random: Random) -> bytes:
    """One member changed, in an archive that is whole."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    except zipfile.BadZipFile:
        return bytes_changed(content, random)
    small = [at for at, (_, data) in enumerate(members) if len(data) < 100_000]
    at = random.choice(small)
    name, data = members[at]
    if name.endswith(".json"):
        members[at] = name, json_changed(data, random)
    elif random.random() < 0.8:
        members[at] = name, bytes_changed(data, random)
    elif random.random() < 0.5:
        del members[at]
    else:
        members[at] = random.choice(members)[0], data
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name), data)
    return written.getvalue()


def _other_word(word: str, words: list[re.Match[str]], random: Random) -> str:
    chosen: Any = random.choice((random.choice(words)[0], *_NUMBERS[:4], None))
    if chosen is None:
        chosen = random.choice(_NUMBERS if word[-1].isdigit() else _WORDS)
    # Python does not write numbers of that many digits.
    return "9" * 400 if chosen == 10**400 else str(chosen)


def _changed_somewhere(document: Any, random: Random) -> Any:
    places: list[tuple[Any, Any]] = []
    waiting = [document] if isinstance(document, (dict, list)) else []
    while waiting:
        each = waiting.pop()
        keys = each.keys() if isinstance(each, dict) else range(len(each))
        for key in keys:
            places.append((each, key))
            if isinstance(each[key], (dict, list)):
                waiting.append(each[key])
    if not places or random.random() < 0.02:
        return random.choice((*_OTHERS, *_NUMBERS, *_WORDS))
    parent, key = random.choice(places)
    kind = random.randrange(8)
    if kind == 0:
        del parent[key]
    elif kind == 1 and isinstance(parent, list):
        parent.insert(random.randrange(len(parent) + 1), copy.deepcopy(parent[key]))
    elif kind == 1:
        parent[random.choice(("id", "x", str(key) + "s"))] = parent[key]
    elif kind == 2:
        other, name = random.choice(places)
        if name in other if isinstance(other, dict) else name < len(other):
            parent[key] = copy.deepcopy(other[name])
    elif kind == 3 and isinstance(parent[key], (int, float)):
        parent[key] = parent[key] + random.choice((-1, 1, 0.5, 1000))
    elif kind == 4 and isinstance(parent[key], str):
        parent[key] = bytes_changed(parent[key].encode(), random).decode("utf-8", "replace")
    else:
        parent[key] = copy.deepcopy(random.choice(random.choice((_NUMBERS, _WORDS, _OTHERS))))
    return document
