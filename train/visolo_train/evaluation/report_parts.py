"""The building blocks of a report's sections, in html."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def section(title: str, *parts: str) -> str:
    """A part of the page under a heading."""
    return f"<section><h2>{title}</h2>\n" + "\n".join(parts) + "\n</section>"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table with a line of headings."""
    head = "".join(f"<th>{each}</th>" for each in heads)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="table"><table><tr>{head}</tr>{body}</table></div>'


def percent(value: float) -> str:
    """A figure from 0 to 1 in percent; a dash for an undefined one (-1)."""
    return f"{100 * value:.1f}" if value >= 0 else "-"
