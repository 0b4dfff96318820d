"""Under which name this package was installed, and the commands that add what is missing.

One tree makes two distributions: ``visolo`` depends on ONNX Runtime for CPUs, ``visolo-gpu`` on
that for GPUs. Both install the same modules.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

CPU, GPU = "visolo", "visolo-gpu"
RUNTIMES = {CPU: "onnxruntime", GPU: "onnxruntime-gpu"}
"""The ONNX Runtime that each of them depends on."""
GPU_EXTRAS = ("gpu", "cuda12", "cuda13")
"""Extras that only ``visolo-gpu`` has."""
FIRST_FOR_CUDA_13 = (1, 27)
"""Earlier releases of ONNX Runtime are for CUDA 12."""
JETSON_RELEASE = Path("/etc/nv_tegra_release")
"""A file of Jetson's system, which has a CUDA and a TensorRT of its own."""


def installed_distributions() -> tuple[str, ...]:
    """The installed ones of the two; installed together, they own the same files."""
    installed = []
    for name in (CPU, GPU):
        try:
            metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        installed.append(name)
    return tuple(installed)


def installed_distribution() -> str:
    """``visolo-gpu`` where that is installed, else ``visolo``."""
    return GPU if GPU in installed_distributions() else CPU


def pip_install(extra: str) -> str:
    """The command that adds an extra to the installed distribution.

    Args:
        extra: such as ``export``; ``gpu`` for the one of ``gpu``, ``cuda12`` and ``jetson`` that
            fits this machine. Those that only ``visolo-gpu`` has replace ``visolo`` where that is
            installed.

    >>> pip_install("export").endswith("[export]'")
    True
    """
    name = installed_distribution()
    if extra == "gpu":
        extra = _gpu_extra()
    if extra in GPU_EXTRAS and name == CPU:
        return f"pip uninstall -y {CPU} {RUNTIMES[CPU]} && pip install '{GPU}[{extra}]'"
    return f"pip install '{name}[{extra}]'"


def _gpu_extra() -> str:
    if JETSON_RELEASE.exists():
        return "jetson"
    try:
        major, minor, *_ = metadata.version(RUNTIMES[GPU]).split(".")
    except metadata.PackageNotFoundError:
        return "gpu"
    return "cuda12" if (int(major), int(minor)) < FIRST_FOR_CUDA_13 else "gpu"
