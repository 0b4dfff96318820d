"""The pages that the site is built from. ``make site`` itself needs the extra ``docs``."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

import visolo

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all pages."""
    folder = tmp_path_factory.mktemp("site") / "pages"
    runpy.run_path(str(ROOT / "tools" / "site_pages.py"))["write_pages"](folder)
    return folder


def test_docstrings_of_the_reference_have_markdown_links(tmp_path: Path) -> None:
    runpy.run_path(str(ROOT / "tools" / "site_pages.py"))["write_sources"](tmp_path)
    sources = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.py")}
    assert {"visolo/__init__.py", "visolo_runtime/track.py"} <= sources
    assert "[`load`][visolo.load]" in (tmp_path / "visolo_runtime" / "track.py").read_text()
    assert not re.search(r":\w+:`", "".join(path.read_text() for path in tmp_path.rglob("*.py")))


def test_links_lead_to_pages(pages: Path) -> None:
    links = [
        (page, target)
        for page in pages.glob("*.md")
        for target in re.findall(r"\]\((?!https?:)([^)#\s]+)", page.read_text())
    ]
    assert ("index.md", "performance.md") in {(page.name, target) for page, target in links}
    assert ("training.md", "model_card.md") in {(page.name, target) for page, target in links}
    assert [target for page, target in links if not (page.parent / target).is_file()] == []


def test_the_menu_lists_every_page(pages: Path) -> None:
    menu = re.findall(
        r"^ +- [\w ]+: ([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE
    )
    assert sorted(menu) == sorted(page.name for page in pages.glob("*.md"))


def test_examples_are_shown_whole(pages: Path) -> None:
    page = (pages / "examples.md").read_text()
    for script in (ROOT / "examples").glob("*.py"):
        assert script.read_text().strip() in page


def test_the_reference_has_every_public_name(pages: Path) -> None:
    sections = re.findall(r"^::: visolo\.(\w+)$", (pages / "reference.md").read_text(), re.M)
    assert set(sections) == set(visolo.__all__) - {"__version__"}
