"""Write the pages of the site: those of ``docs/``, and a few files from outside it.

    python tools/site_pages.py build/pages build/sources

README.md is the first page. Links between files of the repository become links between pages; a
comment ``<!-- source: PATH -->`` becomes the file's text.
The reference has a section for every public name of the package; it is read from a copy of the
sources in which docstrings have Markdown links.
"""

from __future__ import annotations

import posixpath
import re
import shutil
import sys
from pathlib import Path

import visolo

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "runtime/visolo_runtime/models/MODEL_CARD.md": "model_card.md",
    "runtime/visolo_runtime/models/EVERYDAY_CARD.md": "everyday_card.md",
}
"""Files outside ``docs/`` that are pages, and their names on the site."""
SOURCES = ("visolo", "visolo_core", "runtime/visolo_runtime")
"""Packages with public names."""
_LINK = re.compile(r"(\]\()(?!\w+:)([^)#:\s]+)")
_ROLE = re.compile(r":\w+:`~?(?:\w+\.)*(\w+)`")
_SOURCE = re.compile(r"<!-- source: (\S+) -->")


def reference() -> str:
    """The text of the reference: a directive of mkdocstrings for every public name."""
    public = [name for name in visolo.__all__ if not name.startswith("_")]
    sections = [f"::: visolo.{name}\n" for name in sorted(public, key=str.lower)]
    return "\n".join(["# Python reference\n", *sections])


def site_path(path: str) -> str:
    """Where a file of the repository lies on the site."""
    return PAGES.get(path) or path.removeprefix("docs/")


def with_site_links(text: str, path: str) -> str:
    """A page's text with links as the site needs them.

    Args:
        text: Markdown, its links relative to the file.
        path: of the file in the repository.

    >>> with_site_links("[speed](docs/performance.md)", "README.md")
    '[speed](performance.md)'
    >>> with_site_links("[front](../README.md) [web](https://example.org)", "docs/data.md")
    '[front](index.md) [web](https://example.org)'
    """
    folder, own = posixpath.dirname(path), posixpath.dirname(site_path(path))

    def site_link(match: re.Match[str]) -> str:
        target = site_path(posixpath.normpath(posixpath.join(folder, match[2])))
        return match[1] + posixpath.relpath(target, own or ".")

    return _LINK.sub(site_link, text)


def with_sources(text: str) -> str:
    """A page's text with the files that its comments name."""

    def code_block(match: re.Match[str]) -> str:
        source = (ROOT / match[1]).read_text(encoding="utf-8")
        return f"```python\n{source.rstrip()}\n```"

    return _SOURCE.sub(code_block, text)


def with_markdown_links(text: str) -> str:
    """Python with the references in its docstrings as Markdown.

    >>> with_markdown_links(":func:`load` and :attr:`~visolo.Instances.masks`")
    '[`load`][visolo.load] and `masks`'
    """

    def markdown_link(match: re.Match[str]) -> str:
        name = match[1]
        return f"[`{name}`][visolo.{name}]" if name in visolo.__all__ else f"`{name}`"

    return _ROLE.sub(markdown_link, text)


def write_sources(folder: Path) -> None:
    """Write the packages that the reference is read from.

    Args:
        folder: replaced by a new one.
    """
    shutil.rmtree(folder, ignore_errors=True)
    for package in SOURCES:
        for source in (ROOT / package).rglob("*.py"):
            copy = folder / source.relative_to((ROOT / package).parent)
            copy.parent.mkdir(parents=True, exist_ok=True)
            text = with_markdown_links(source.read_text(encoding="utf-8"))
            copy.write_text(text, encoding="utf-8")


def write_pages(folder: Path) -> None:
    """Write every page, and the files that pages embed or link to.

    Args:
        folder: replaced by a new one.
    """
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "docs", folder)
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=lambda *_: ["__pycache__"])
    shutil.copy(ROOT / "CITATION.cff", folder)
    sources = [*PAGES, *(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))]
    for path in sources:
        text = with_sources(with_site_links((ROOT / path).read_text(encoding="utf-8"), path))
        (folder / site_path(path)).write_text(text, encoding="utf-8")
    (folder / "reference.md").write_text(reference(), encoding="utf-8")


if __name__ == "__main__":
    write_pages(Path(sys.argv[1]))
    write_sources(Path(sys.argv[2]))
