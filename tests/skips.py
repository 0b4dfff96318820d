"""Limits the reasons for which tests may be skipped to a list.

A test that silently stops running proves nothing. With VISOLO_STRICT_SKIPS or CI set, a test that
is skipped for a reason that is not listed fails.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Any

import pytest

VARIABLES = ("VISOLO_STRICT_SKIPS", "CI")
"""Any of them makes a run strict."""
WHOLE_GOLDEN = "set VISOLO_GOLDEN to the folder of the whole golden set"
REAL_DATA = "set VISOLO_DATA to a folder of real videos and images"
NO_COMPILER = "needs a C++ compiler"
NO_CUDA = "this PyTorch has no CUDA"
OTHER_RUNTIME = "onnxruntime-gpu is installed here"
NOT_LIMITED = "VISOLO_INSTRUCTION_LIMIT is not set, see make parity-avx2"
NEEDS_NAMESPACES = "needs the right to make network namespaces"
NEEDS_MOUNT = "needs the right to mount a small file system"
NO_RTSP_SERVER = (
    "needs Debian's RTSP server: apt-get install python3-gi gir1.2-gst-rtsp-server-1.0 "
    "gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly"
)
"""Not listed: .ci/run installs it, so that a strict run has no reason to skip. Where it cannot
reach Debian's packages, it says so and sets ``WITHOUT_DEBIAN``."""
WITHOUT_DEBIAN = "VISOLO_WITHOUT_DEBIAN"
NO_RAY = "visolo[bulk] is not installed"
NO_CHROMIUM = "chromium is not installed"
NO_NGINX = "nginx is not installed"
NO_WEB_RUNTIME = "onnxruntime-web is not here, see make web"
NO_TRITON = "set VISOLO_TRITON to a Python with nvidia-pytriton, see docs/triton.md"
LISTED = (
    WHOLE_GOLDEN,  # 9 MB; a part of it is committed and always compared
    REAL_DATA,  # other people's images, which cannot be committed
    NO_COMPILER,  # the user's compiler generates machine code
    NO_CUDA,  # there is a GPU, but this PyTorch cannot use it
    OTHER_RUNTIME,  # tests what only the CPU's ONNX Runtime lacks
    NEEDS_MOUNT,  # root has it, also in a container of one's own
    NEEDS_NAMESPACES,  # likewise
    NOT_LIMITED,  # tests a limit that is not set
    NO_RAY,  # Ray has no wheels for some systems
    NO_CHROMIUM,  # a browser, which .ci/run installs
    NO_NGINX,  # likewise
    NO_WEB_RUNTIME,  # from npm, which .ci/run installs
    NO_TRITON,  # a server of 200 MB, which needs another NumPy than the tests
)


def install(config: pytest.Config) -> None:
    """In strict runs, fail tests that are skipped for a reason that is not listed."""
    if any(os.environ.get(name) for name in VARIABLES):
        config.pluginmanager.register(StrictSkips())


class StrictSkips:
    """A pytest plugin that turns skips for other reasons into failures."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if not hasattr(report, "wasxfail"):
            _judge(report)
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self,
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        report = yield
        _judge(report)
        return report


def _judge(report: Any) -> None:
    if not report.skipped:
        return
    reason = report.longrepr[2].removeprefix("Skipped: ")
    allowed = (*LISTED, NO_RTSP_SERVER) if os.environ.get(WITHOUT_DEBIAN) else LISTED
    if not any(listed in reason for listed in allowed):
        report.outcome = "failed"
        report.longrepr = (
            f"{report.nodeid} is skipped, and its reason is not listed in tests/skips.py: {reason}"
        )
