"""What ``visolo doctor`` reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from visolo_runtime.engines.nvidia import Driver


@dataclass(frozen=True)
class Computer:
    """The machine and its Python."""

    system: str
    processor: str
    """its architecture"""
    cores: int | None
    """that this process may use; None if unknown"""
    python: str
    """version"""


@dataclass(frozen=True)
class BackendCheck:
    """Whether a library could be started."""

    usable: bool
    detail: str
    """version and device, or why it is not usable"""
    providers: tuple[str, ...] | None = None
    """ONNX Runtime's providers that started; None for other libraries"""
    refused: Mapping[str, str] = field(default_factory=dict)
    """why ONNX Runtime's other providers do not start, by their names"""

    def as_dict(self) -> dict[str, Any]:
        """Ready for json; ``providers`` for ONNX Runtime only."""
        report: dict[str, Any] = {"usable": self.usable, "detail": self.detail}
        if self.providers is None:
            return report
        return report | {"providers": list(self.providers), "refused": dict(self.refused)}


@dataclass(frozen=True)
class DriverCheck:
    """NVIDIA's driver and its GPUs."""

    driver: Driver | None
    fault: str = ""
    """why there is none"""

    def as_dict(self) -> dict[str, Any]:
        """Ready for json."""
        if self.driver is None:
            return {"cuda": None, "gpus": [], "fault": self.fault}
        return {
            "cuda": ".".join(map(str, self.driver.cuda)),
            "gpus": [asdict(gpu) for gpu in self.driver.gpus],
            "fault": None,
        }


@dataclass(frozen=True)
class Diagnosis:
    """The machine, its packages and backends, and the problems with them."""

    machine: Computer
    nvidia: DriverCheck
    packages: dict[str, str | None]
    """versions by name; None if not installed"""
    backends: dict[str, BackendCheck]
    problems: tuple[str, ...]
    """one sentence each, with what to do"""
    notes: tuple[str, ...] = ()
    """what works but could be better, likewise"""

    def as_dict(self) -> dict[str, Any]:
        """Ready for json."""
        return {
            "machine": asdict(self.machine),
            "nvidia": self.nvidia.as_dict(),
            "packages": self.packages,
            "backends": {name: check.as_dict() for name, check in self.backends.items()},
            "problems": list(self.problems),
            "notes": list(self.notes),
        }
