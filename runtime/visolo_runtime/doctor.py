"""What this machine can run and what prevents the rest; every library is really started."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from importlib import metadata

from visolo_core.distribution import installed_distributions, pip_install
from visolo_core.errors import NotHereError
from visolo_runtime.diagnosis import BackendCheck, Computer, Diagnosis, DriverCheck
from visolo_runtime.engines.nvidia import find_driver
from visolo_runtime.engines.onnxruntime.backend import PROVIDERS, installed_runtimes
from visolo_runtime.engines.onnxruntime.libraries import load_gpu_libraries
from visolo_runtime.engines.openvino.backend import OpenVinoBackend
from visolo_runtime.engines.tensorrt.backend import find_device
from visolo_runtime.engines.tensorrt.engine import TensorRtRuntime
from visolo_runtime.engines.tensorrt.library import Library
from visolo_runtime.installation import find_problems, idle_gpu

_PACKAGES = (
    "visolo", "visolo-gpu", "numpy", "pillow", "av", "pycocotools", "pydantic", "typer", "rich",
    "torch", "torchvision", "onnx", "onnxscript", "safetensors",
    "openvino", "tensorrt", "tensorrt-cu12", "tensorrt-cu13", "tensorrt-rtx", "pycuda",
    "nvidia-cudnn-cu12", "nvidia-cudnn-cu13",
)  # fmt: skip
# An ONNX model of one Identity node, to start a provider with. Field by field: IR version 8,
# opset 13, and graph "g" with node Identity(x) -> y and float vectors x and y of length 1.
_IDENTITY = bytes.fromhex(
    "08083a370a100a017812017922084964656e746974791201675a0f0a0178120a0a08080112040a020801"
    "620f0a0179120a0a08080112040a02080142040a00100d"
)


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
    nvidia = _check_driver()
    machine = Computer(
        system=platform.platform(),
        processor=platform.machine(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        python=platform.python_version(),
    )
    problems = find_problems(installed_distributions(), runtimes, packages, nvidia, backends)
    notes = () if problems else idle_gpu(nvidia, backends)
    return Diagnosis(machine, nvidia, packages, backends, problems, notes)


def _check(describe: Callable[[], str]) -> BackendCheck:
    try:
        return BackendCheck(usable=True, detail=describe())
    except NotHereError as error:
        return BackendCheck(usable=False, detail=str(error))


def _tensorrt(name: Library) -> str:
    device = find_device(name)
    runtime = TensorRtRuntime(name, device)
    return f"{runtime.version}, {device.name}, {device.architecture}"


def _check_driver() -> DriverCheck:
    try:
        return DriverCheck(find_driver())
    except NotHereError as error:
        return DriverCheck(None, str(error))


def _check_onnxruntime() -> BackendCheck:
    try:
        import onnxruntime
    except ImportError as error:
        return BackendCheck(usable=False, detail=str(error).splitlines()[0], providers=())
    available = onnxruntime.get_available_providers()
    refused = {}
    for provider in ("tensorrt", "cuda"):
        if PROVIDERS[provider] in available:
            try:
                load_gpu_libraries(onnxruntime, provider)
            except NotHereError as error:
                refused[PROVIDERS[provider]] = str(error)
    # A provider may still fail to start: only the session lists those that did.
    onnxruntime.set_default_logger_severity(4)
    tried = [each for each in available if each not in refused]
    session = onnxruntime.InferenceSession(_IDENTITY, providers=tried)
    version = f"ONNX Runtime {onnxruntime.__version__}"
    return BackendCheck(True, version, tuple(session.get_providers()), refused)


def _check_torch(version: str | None) -> BackendCheck:
    # Importing PyTorch takes seconds, so only check that it is installed.
    if version is None:
        return BackendCheck(usable=False, detail=f"not installed: run {pip_install('export')}")
    return BackendCheck(usable=True, detail=f"PyTorch {version}")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
