"""Under which name this package was installed, and the commands that add what is missing.

One tree makes two distributions: ``visolo`` depends on ONNX Runtime for CPUs, ``visolo-gpu`` on
that for GPUs. Both install the same modules.
"""

from __future__ import annotations

from importlib import metadata

CPU, GPU = "visolo", "visolo-gpu"
RUNTIMES = {CPU: "onnxruntime", GPU: "onnxruntime-gpu"}
"""The ONNX Runtime that each of them depends on."""


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
        extra: such as ``export``. For ``gpu``, which only ``visolo-gpu`` has, the command replaces
            ``visolo`` where that is installed.

    >>> pip_install("export").endswith("[export]'")
    True
    """
    name = installed_distribution()
    if extra == "gpu" and name == CPU:
        return f"pip uninstall -y {CPU} {RUNTIMES[CPU]} && pip install '{GPU}[{extra}]'"
    return f"pip install '{name}[{extra}]'"
