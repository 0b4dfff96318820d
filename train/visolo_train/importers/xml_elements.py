"""The elements of an XML file, one after another, without the risks of XML.

A document type declaration is refused: it is where entities are declared that grow to gigabytes or
read other files, and no annotation file has one. Of a large file, one element is in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from visolo_core.errors import VisoloError
from visolo_core.files import reason

_CHUNK = 1 << 16  # bytes
_MAX_DEPTH = 16  # the deepest of CVAT's has 7


def root_name(path: Path) -> str | None:
    """The name of a file's first element; None if it is not XML.

    Raises:
        VisoloError: if it cannot be read, or has a document type declaration.
    """
    try:
        for element in _parts(path, depth=0):
            return element.tag
    except expat.ExpatError:
        pass
    return None


def elements(path: Path) -> Iterator[Element]:
    """The elements below the root, each complete.

    Raises:
        VisoloError: if the file cannot be read, is not XML, has a document type declaration or
            nests elements without end.
    """
    try:
        yield from _parts(path, depth=1)
    except expat.ExpatError as error:
        raise VisoloError(f"'{path}' is not XML, or cut short: {error}") from error


def _parts(path: Path, depth: int) -> Iterator[Element]:
    """The elements at a depth. Those of depth 0 are given when they begin, without children."""
    builder = _Builder(path, depth)
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = builder.refuse
    parser.EntityDeclHandler = builder.refuse
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.text
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                _parse(parser, chunk, path)
                yield from builder.take()
            parser.Parse(b"", True)
    except expat.ExpatError:
        yield from builder.take()  # what is whole before the damage
        raise
    except OSError as error:
        raise VisoloError(f"cannot read '{path}': {reason(error)}") from error


def _parse(parser: expat.XMLParserType, chunk: bytes, path: Path) -> None:
    try:
        parser.Parse(chunk, False)
    except (LookupError, ValueError) as error:  # an encoding that Python or expat does not have
        raise VisoloError(f"'{path}' is not XML that can be read: {error}") from error


class _Builder:
    """Receives the parser's events."""

    def __init__(self, path: Path, depth: int) -> None:
        self._path, self._depth = path, depth
        self._level = 0
        self._tree: TreeBuilder | None = None
        self._ready: list[Element] = []

    def take(self) -> list[Element]:
        ready, self._ready = self._ready, []
        return ready

    def refuse(self, *_: Any) -> None:
        raise VisoloError(
            f"'{self._path}' has a document type declaration, which annotation files do not have: "
            "it is not read"
        )

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if self._level >= _MAX_DEPTH:
            raise VisoloError(f"'{self._path}' nests more than {_MAX_DEPTH} elements")
        if self._level == 0 == self._depth:
            self._ready.append(Element(name, attributes))
        if self._level == self._depth > 0:
            self._tree = TreeBuilder()
        if self._tree is not None:
            self._tree.start(name, attributes)
        self._level += 1

    def end(self, name: str) -> None:
        self._level -= 1
        if self._tree is None:
            return
        self._tree.end(name)
        if self._level == self._depth:
            self._ready.append(self._tree.close())
            self._tree = None

    def text(self, text: str) -> None:
        if self._tree is not None:
            self._tree.data(text)
