"""What this machine can run and what prevents the rest; every library is really started."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

from visolo_core.distribution import CPU, GPU, RUNTIMES, installed_distributions, pip_install
from visolo_core.errors import NotHereError
from visolo_runtime.engines.onnxruntime.backend import installed_runtimes
from visolo_runtime.engines.openvino.backend import OpenVinoBackend
from visolo_runtime.engines.tensorrt.backend import find_device
from visolo_runtime.engines.tensorrt.engine import TensorRtRuntime
from visolo_runtime.engines.tensorrt.library import Library

_PACKAGES = (
    "visolo", "visolo-gpu", "numpy", "pillow", "av", "pycocotools", "pydantic", "typer", "rich",
    "torch", "torchvision", "onnx", "onnxscript", "safetensors",
    "openvino", "tensorrt", "tensorrt-rtx", "pycuda",
)  # fmt: skip
# An ONNX model of one Identity node, to start a provider with. Field by field: IR version 8,
# opset 13, and graph "g" with node Identity(x) -> y and float vectors x and y of length 1.
_IDENTITY = bytes.fromhex(
    "08083a370a100a017812017922084964656e746974791201675a0f0a0178120a0a08080112040a020801"
    "620f0a0179120a0a08080112040a02080142040a00100d"
)


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

    def as_dict(self) -> dict[str, Any]:
        """Ready for json; ``providers`` for ONNX Runtime only."""
        report: dict[str, Any] = {"usable": self.usable, "detail": self.detail}
        return report if self.providers is None else report | {"providers": list(self.providers)}


@dataclass(frozen=True)
class Diagnosis:
    """The machine, its packages and backends, and the problems with them."""

    machine: Computer
    packages: dict[str, str | None]
    """versions by name; None if not installed"""
    backends: dict[str, BackendCheck]
    problems: tuple[str, ...]
    """one sentence each, with the command that fixes it"""

    def as_dict(self) -> dict[str, Any]:
        """Ready for json."""
        return {
            "machine": asdict(self.machine),
            "packages": self.packages,
            "backends": {name: check.as_dict() for name, check in self.backends.items()},
            "problems": list(self.problems),
        }


def examine() -> Diagnosis:
    """Look at the machine and its packages, and try every backend."""
    runtimes = installed_runtimes()
    packages = {name: _version(name) for name in _PACKAGES} | runtimes
    backends = {
        "tensorrt": _check(lambda: _tensorrt("tensorrt")),
        "tensorrt-rtx": _check(lambda: _tensorrt("tensorrt-rtx")),
        "openvino": _check(lambda: OpenVinoBackend({}).description),
        "onnxruntime": _check_onnxruntime(),
        "torch": _check_torch(packages["torch"]),
    }
    machine = Computer(
        system=platform.platform(),
        processor=platform.machine(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        python=platform.python_version(),
    )
    problems = find_problems(installed_distributions(), runtimes, backends["onnxruntime"])
    return Diagnosis(machine, packages, backends, problems)


def find_problems(
    distributions: Sequence[str], runtimes: Mapping[str, str], onnxruntime: BackendCheck
) -> tuple[str, ...]:
    """The problems of an installation, each with the command that fixes it.

    Args:
        distributions: those of ``visolo`` and ``visolo-gpu`` that are installed.
        runtimes: installed ONNX Runtime packages with versions.
        onnxruntime: the check of ONNX Runtime.
    """
    problems = []
    if len(distributions) > 1:
        everything = " ".join([*distributions, *runtimes])
        problems.append(
            f"{' and '.join(distributions)} are installed together and own the same files: run "
            f"pip uninstall -y {everything} && pip install {GPU}"
        )
    elif len(runtimes) > 1:
        names = " and ".join(runtimes)
        kept = RUNTIMES[GPU] if RUNTIMES[GPU] in runtimes else RUNTIMES[CPU]
        problems.append(
            f"{names} are installed together and overwrite each other's files, which disables the "
            f"GPU silently: run pip uninstall -y {' '.join(runtimes)} && pip install {kept}"
        )
    if not onnxruntime.usable:
        problems.append(
            f"no engine can run a bundle ({onnxruntime.detail}): "
            f"run pip install {RUNTIMES[GPU if GPU in distributions else CPU]}"
        )
    if RUNTIMES[GPU] in runtimes and "CUDAExecutionProvider" not in (onnxruntime.providers or ()):
        problems.append(
            "onnxruntime-gpu is installed, but its CUDA provider does not start here and it would "
            "compute on the CPU: check the driver, CUDA and cuDNN"
        )
    return tuple(problems)


def _check(describe: Callable[[], str]) -> BackendCheck:
    try:
        return BackendCheck(usable=True, detail=describe())
    except NotHereError as error:
        return BackendCheck(usable=False, detail=str(error))


def _tensorrt(name: Library) -> str:
    device = find_device(name)
    runtime = TensorRtRuntime(name, device)
    return f"{runtime.version}, {device.name}, {device.architecture}"


def _check_onnxruntime() -> BackendCheck:
    try:
        import onnxruntime
    except ImportError as error:
        return BackendCheck(usable=False, detail=str(error).splitlines()[0], providers=())
    # An available provider may still fail to start: only the session lists those that did.
    onnxruntime.set_default_logger_severity(4)
    session = onnxruntime.InferenceSession(
        _IDENTITY, providers=onnxruntime.get_available_providers()
    )
    version = f"ONNX Runtime {onnxruntime.__version__}"
    return BackendCheck(usable=True, detail=version, providers=tuple(session.get_providers()))


def _check_torch(version: str | None) -> BackendCheck:
    # Importing PyTorch takes seconds, so only check that it is installed.
    if version is None:
        return BackendCheck(usable=False, detail=f"not installed: {pip_install('export')}")
    return BackendCheck(usable=True, detail=f"PyTorch {version}")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
