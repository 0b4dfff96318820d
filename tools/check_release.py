"""Check that this tree can be released: a date in the changelog, one version, nothing uncommitted.

    python tools/check_release.py

Publishes nothing.
"""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import date
from pathlib import Path

ROOT = Path(__file__).parents[1]


def version(root: Path) -> str:
    """The version of the tree."""
    text = (root / "visolo_core" / "__init__.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "(.+)"$', text, re.M)
    if match is None:
        raise SystemExit("'visolo_core/__init__.py' does not define __version__")
    return match[1]


def changelog_faults(changelog: str, expected: str) -> list[str]:
    """What the changelog lacks to release a version; a sentence each.

    >>> changelog_faults("## 1.0.0, 2026-05-01", "1.0.0")
    []
    >>> changelog_faults("## 1.0.0, not yet released", "1.0.0")
    ["CHANGELOG.md says '1.0.0, not yet released': write the date, such as 2026-05-01"]
    """
    headings = re.findall(r"^## (\S+), (.+)$", changelog, re.M)
    dated = dict(headings)
    if expected not in dated:
        return [f"CHANGELOG.md has no section '## {expected}, DATE'"]
    try:
        date.fromisoformat(dated[expected])
    except ValueError:
        return [
            f"CHANGELOG.md says '{expected}, {dated[expected]}': write the date, such as 2026-05-01"
        ]
    return []


def citation_faults(citation: str, expected: str) -> list[str]:
    """Whether CITATION.cff names a different version; a sentence if so.

    >>> citation_faults("version: 0.9.0", "1.0.0")
    ["CITATION.cff has no line 'version: 1.0.0'"]
    """
    line = f"version: {expected}"
    return [] if line in citation.splitlines() else [f"CITATION.cff has no line '{line}'"]


def tree_faults(root: Path) -> list[str]:
    """Whether a change is not committed; a sentence if so."""
    status = ["git", "status", "--porcelain"]
    changes = subprocess.run(status, cwd=root, capture_output=True, text=True, check=True).stdout
    return [f"not committed:\n{changes.rstrip()}"] if changes else []


def main() -> None:
    """Exit status 1, and a sentence for each fault, if it cannot be released."""
    expected = version(ROOT)
    wrong = [
        *changelog_faults((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), expected),
        *citation_faults((ROOT / "CITATION.cff").read_text(encoding="utf-8"), expected),
        *tree_faults(ROOT),
    ]
    if wrong:
        sys.exit("\n".join(wrong))
    print(f"version {expected} can be released")


if __name__ == "__main__":
    main()
