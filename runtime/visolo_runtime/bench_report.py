"""A measurement with the machine it was made on, and whether it reached its target."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from visolo_runtime.bench import Measured, ratios


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in text.splitlines() if "model name" in line)
    return next(names, platform.machine())


@dataclass(frozen=True)
class BenchReport:
    """The speed of one or two models, and where it was measured."""

    measured: Sequence[Measured]
    source: str
    """name of the video"""
    ahead: bool
    """whether frames were read and resized in a thread"""
    target_fps: float | None = None
    """frames per second that the first model should reach"""
    processor: str = field(default_factory=_processor)
    """the CPU's name"""

    @property
    def ratios(self) -> list[float]:
        """How many times as fast as the second model the first is, one ratio per pair of rounds."""
        return ratios(self.measured[0], self.measured[1]) if len(self.measured) > 1 else []

    @property
    def ratio(self) -> float | None:
        """Median of the ratios; None for a single model."""
        return float(np.median(self.ratios)) if self.ratios else None

    @property
    def passed(self) -> bool | None:
        """Whether the first model reaches the target; None without one."""
        return None if self.target_fps is None else self.measured[0].fps >= self.target_fps

    def as_dict(self) -> dict[str, Any]:
        """What ``visolo bench --json`` prints."""
        return {
            "source": self.source,
            "ahead": self.ahead,
            "machine": {
                "processor": self.processor,
                "cores": os.cpu_count(),
                "os": platform.system(),
            },
            "models": [each.as_dict() for each in self.measured],
            "ratios": self.ratios,
            "ratio": self.ratio,
            "target_fps": self.target_fps,
            "passed": self.passed,
        }
