"""An HTML page about a verification: what is over tolerance, and how errors grow over frames."""

from __future__ import annotations

import json
from dataclasses import asdict
from html import escape
from importlib.resources import files
from math import isfinite
from pathlib import Path

from visolo_core.files import replaced
from visolo_export.verification import Tolerance, Verification
from visolo_export.verification_report import VerificationReport
from visolo_train.evaluation.report_charts import error_curve
from visolo_train.evaluation.report_parts import section, table


def write_verification_page(path: Path, report: VerificationReport) -> None:
    """Write the page.

    Args:
        path: of the HTML file.
        report: of the verification.

    Raises:
        VisoloError: if the page cannot be written.
    """
    title = f"{escape(report.form)} against {escape(report.reference)}"
    verification = report.verification
    style = files("visolo_train.evaluation").joinpath("report.css").read_text(encoding="utf-8")
    verdict = "passed" if report.passed else "over tolerance"
    page = "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{title}</title>\n<style>\n{style}</style>\n</head>\n<body>",
            f"<header><h1>{title}</h1><p>{escape(report.source)}, {verification.frames} frames: "
            f"{verdict}</p></header>",
            section("Verdict", _list(report.failures) or "<p>All within tolerance.</p>"),
            section("Each graph on the same inputs", _tensors(verification)),
            section("Closed-loop, frame by frame", _drift(verification)),
            section("Tolerances", _tolerances(verification.tolerance)),
            "</body>\n</html>\n",
        ]
    )
    with replaced(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _list(sentences: list[str]) -> str:
    items = "".join(f"<li>{escape(each)}</li>" for each in sentences)
    return f"<ul>{items}</ul>" if items else ""


def _tensors(verification: Verification) -> str:
    rows = [
        (f"{graph}.{name}", _number(error.absolute), _number(error.relative))
        for graph, tensors in verification.tensors.items()
        for name, error in tensors.items()
    ]
    return table(("tensor", "absolute", "relative"), rows)


def _drift(verification: Verification) -> str:
    """A small chart for each tensor, all on one scale."""
    curves = verification.drift
    numbers = [error for errors in curves.values() for error in errors if isfinite(error)]
    top = max(numbers, default=0.0) or 1.0
    charts = "".join(
        f"<figure><figcaption>{escape(name)}</figcaption>"
        f"{error_curve([each if isfinite(each) else top for each in errors], top, name)}</figure>"
        for name, errors in curves.items()
    )
    return (
        f'<p>Relative error; the charts end at {top:.1e}.</p><div class="many wide">{charts}</div>'
    )


def _tolerances(tolerance: Tolerance) -> str:
    rows = [(escape(name), json.dumps(value)) for name, value in asdict(tolerance).items()]
    return table(("of", "largest"), rows)


def _number(value: float) -> str:
    return f"{value:.2e}" if isfinite(value) else "not a number"
