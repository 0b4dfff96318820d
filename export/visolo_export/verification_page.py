"""A page about a verification: what is over tolerance, and how errors grow over the frames."""

from __future__ import annotations

import json
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from visolo_core.files import replaced
from visolo_train.evaluation.report_charts import error_curve
from visolo_train.evaluation.report_parts import section, table


def write_verification_page(path: Path, report: dict[str, Any]) -> None:
    """Write the page.

    Args:
        path: of the html file.
        report: as ``visolo verify --json`` prints it.

    Raises:
        VisoloError: if it cannot be written.
    """
    title = f"{escape(report['form'])} against {escape(report['reference'])}"
    style = files("visolo_train.evaluation").joinpath("report.css").read_text(encoding="utf-8")
    verdict = "passed" if report["passed"] else "over tolerance"
    page = "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{title}</title>\n<style>\n{style}</style>\n</head>\n<body>",
            f"<header><h1>{title}</h1><p>{escape(report['source'])}, {report['frames']} frames: "
            f"{verdict}</p></header>",
            section("Verdict", _list(report["failures"]) or "<p>Everything is within.</p>"),
            section("Each graph on the same inputs", _tensors(report)),
            section("Closed-loop, frame by frame", _drift(report)),
            section("Tolerances", _tolerances(report)),
            "</body>\n</html>\n",
        ]
    )
    with replaced(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _list(sentences: list[str]) -> str:
    items = "".join(f"<li>{escape(each)}</li>" for each in sentences)
    return f"<ul>{items}</ul>" if items else ""


def _tensors(report: dict[str, Any]) -> str:
    rows = [
        (f"{graph}.{name}", _number(error["absolute"]), _number(error["relative"]))
        for graph, tensors in report["tensors"].items()
        for name, error in tensors.items()
    ]
    return table(("tensor", "absolute", "relative"), rows)


def _drift(report: dict[str, Any]) -> str:
    """A small chart a tensor, all on one scale."""
    curves = report["drift"]
    numbers = [error for errors in curves.values() for error in errors if error is not None]
    top = max(numbers, default=0.0) or 1.0
    charts = "".join(
        f"<figure><figcaption>{escape(name)}</figcaption>"
        f"{error_curve([top if each is None else each for each in errors], top, name)}</figure>"
        for name, errors in curves.items()
    )
    return (
        f'<p>Relative error; the charts end at {top:.1e}.</p><div class="many wide">{charts}</div>'
    )


def _tolerances(report: dict[str, Any]) -> str:
    rows = [(escape(name), json.dumps(value)) for name, value in report["tolerance"].items()]
    return table(("of", "largest"), rows)


def _number(value: float | None) -> str:
    return "not a number" if value is None else f"{value:.2e}"
