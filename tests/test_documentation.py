"""Commands in the documentation exist, with the options that are written there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from visolo.cli import COMMANDS, app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands() -> list[tuple[str, str]]:
    """Every line of a code block that calls visolo, by page."""
    found = []
    for page in PAGES:
        for block in re.findall(r"```(?:sh|bash)?\n(.*?)```", page.read_text(), re.DOTALL):
            found += [
                (page.name, line) for line in block.splitlines() if line.startswith("visolo ")
            ]
    return found


@pytest.mark.parametrize(("page", "line"), commands())
def test_commands_can_be_parsed(page: str, line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    group: Any = typer.main.get_command(app)
    command = group.get_command(None, words[0])
    assert command is not None, f"{page}: {line}"
    command.make_context(words[0], words[1:])  # raises on an unknown option


def test_every_command_is_documented() -> None:
    readme = (ROOT / "README.md").read_text()
    for name in COMMANDS:
        assert f"`visolo {name}" in readme


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_named_tests_exist(page: Path) -> None:
    text = page.read_text()
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (page.parent / target).exists(), target
    for path, name in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text):
        assert (ROOT / path).exists(), path
        assert name in (ROOT / path).read_text()
