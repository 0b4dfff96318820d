"""OpenVINO's package, without its reports to its maker."""

from __future__ import annotations

import sys
from typing import Any


def hide_reports() -> None:
    """Keep OpenVINO from reporting, if it has not been imported yet.

    On its import, and many times for each graph that it converts, it forks the process to send a
    report to Google Analytics, and waits for up to three seconds. visolo sends nothing, and the
    fork of a process with threads may hang: so the package that reports is hidden. OpenVINO works
    as well without it.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]


def import_openvino() -> Any:
    """The package ``openvino``.

    Raises:
        ImportError: if it is not installed.
    """
    hide_reports()
    import openvino

    return openvino
