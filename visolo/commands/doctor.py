"""``visolo doctor``: what this machine can run, and what stands in the way."""

from __future__ import annotations

import json
import os
import platform
from importlib import metadata
from typing import TYPE_CHECKING, Any

import typer

from visolo.commands.options import EXIT_CHECK_FAILED, Json

if TYPE_CHECKING:
    from visolo_runtime.engines.tensorrt.library import Library

_PACKAGES = (
    "visolo", "numpy", "pillow", "av", "pycocotools", "pydantic", "typer", "rich",
    "torch", "torchvision", "onnx", "onnxscript", "safetensors",
    "openvino", "tensorrt", "tensorrt-rtx", "pycuda",
)  # fmt: skip
# An ONNX model of one Identity node, to ask a provider for real. Field by field: IR version 8,
# opset 13, and graph "g" with node Identity(x) -> y and float vectors x and y of length 1.
_IDENTITY = bytes.fromhex(
    "08083a370a100a017812017922084964656e746974791201675a0f0a0178120a0a08080112040a020801"
    "620f0a0179120a0a08080112040a02080142040a00100d"
)


def doctor(as_json: Json = False) -> None:
    """Say what this machine can run. Exit status 1 if something stands in the way."""
    report = examine()
    if as_json:
        typer.echo(json.dumps(report))
    else:
        _print(report)
    if report["problems"]:
        raise typer.Exit(EXIT_CHECK_FAILED)


def examine() -> dict[str, Any]:
    """Machine, packages, usable backends, and problems as sentences; ready for json."""
    from visolo_runtime.engines.onnxruntime.backend import installed_distributions

    runtimes = installed_distributions()
    packages = {name: _version(name) for name in _PACKAGES} | runtimes
    backends = {
        "tensorrt": _tensorrt("tensorrt"),
        "tensorrt-rtx": _tensorrt("tensorrt-rtx"),
        "openvino": _openvino(),
        "onnxruntime": _onnxruntime(),
        "torch": _torch(packages["torch"]),
    }
    return {
        "machine": {
            "system": platform.platform(),
            "processor": platform.machine(),
            "cores": len(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else os.cpu_count(),
            "python": platform.python_version(),
        },
        "packages": packages,
        "backends": backends,
        "problems": problems(runtimes, backends),
    }


def problems(runtimes: dict[str, str], backends: dict[str, dict[str, Any]]) -> list[str]:
    """What stands in the way, each with the command that mends it.

    Args:
        runtimes: installed ONNX Runtime packages with versions.
        backends: what each backend said when it was tried.
    """
    found = []
    if len(runtimes) > 1:
        names = " and ".join(runtimes)
        wanted = "onnxruntime-gpu" if "onnxruntime-gpu" in runtimes else "onnxruntime"
        found.append(
            f"{names} are installed together and overwrite each other's files, which disables the "
            f"GPU silently: run pip uninstall -y {' '.join(runtimes)} && pip install {wanted}"
        )
    if not backends["onnxruntime"]["usable"]:
        found.append(
            f"no engine can run a bundle ({backends['onnxruntime']['detail']}): "
            "run pip install onnxruntime"
        )
    gpu = "onnxruntime-gpu" in runtimes
    if gpu and "CUDAExecutionProvider" not in backends["onnxruntime"].get("providers", []):
        found.append(
            "onnxruntime-gpu is installed, but its CUDA provider does not start here and it would "
            "compute on the CPU: check the driver, CUDA and cuDNN"
        )
    return found


def _tensorrt(name: Library) -> dict[str, Any]:
    from visolo_core.errors import NotHereError
    from visolo_runtime.engines.tensorrt.backend import find_device
    from visolo_runtime.engines.tensorrt.engine import TensorRtRuntime

    try:
        device = find_device(name)
        runtime = TensorRtRuntime(name, device)
    except NotHereError as error:
        return {"usable": False, "detail": str(error)}
    return {"usable": True, "detail": f"{runtime.version}, {device.name}, {device.architecture}"}


def _openvino() -> dict[str, Any]:
    from visolo_core.errors import NotHereError
    from visolo_runtime.engines.openvino.backend import OpenVinoBackend

    try:
        return {"usable": True, "detail": OpenVinoBackend({}).description}
    except NotHereError as error:
        return {"usable": False, "detail": str(error)}


def _onnxruntime() -> dict[str, Any]:
    try:
        import onnxruntime
    except ImportError as error:
        return {"usable": False, "detail": str(error).splitlines()[0], "providers": []}
    # What is listed as available may still fail to start: only a session's own list is proof.
    onnxruntime.set_default_logger_severity(4)
    session = onnxruntime.InferenceSession(
        _IDENTITY, providers=onnxruntime.get_available_providers()
    )
    return {
        "usable": True,
        "detail": f"ONNX Runtime {onnxruntime.__version__}",
        "providers": session.get_providers(),
    }


def _torch(version: str | None) -> dict[str, Any]:
    from visolo_core.distribution import pip_install

    # Importing PyTorch takes seconds; that it is installed is enough to say.
    detail = f"PyTorch {version}" if version else f"not installed: {pip_install('export')}"
    return {"usable": version is not None, "detail": detail}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _print(report: dict[str, Any]) -> None:
    machine = report["machine"]
    typer.echo(
        f"{machine['system']}, {machine['cores']} cores, Python {machine['python']}\n\npackages"
    )
    for name, version in report["packages"].items():
        typer.echo(f"  {name:<16} {version or '-'}")
    typer.echo("\nbackends")
    for name, backend in report["backends"].items():
        mark = "yes" if backend["usable"] else "no"
        active = ", ".join(backend.get("providers", []))
        typer.echo(f"  {name:<16} {mark:<4} {backend['detail']} {active}".rstrip())
    typer.echo("")
    for problem in report["problems"] or ["no problems found"]:
        typer.echo(problem)
