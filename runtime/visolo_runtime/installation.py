"""What is wrong with an installation: a sentence for each problem, with what to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from visolo_core.distribution import CPU, FIRST_FOR_CUDA_13, GPU, RUNTIMES, pip_install
from visolo_core.errors import NotHereError
from visolo_runtime.diagnosis import BackendCheck, DriverCheck
from visolo_runtime.engines.nvidia import check_driver

_FOR_CUDA = ("tensorrt", "nvidia-cudnn")
"""Packages that exist as ``-cu12`` and ``-cu13`` and install into one folder."""


def find_problems(
    distributions: Sequence[str],
    runtimes: Mapping[str, str],
    packages: Mapping[str, str | None],
    nvidia: DriverCheck,
    backends: Mapping[str, BackendCheck],
) -> tuple[str, ...]:
    """The problems of an installation.

    A missing GPU is none where nothing is installed that needs one.

    Args:
        distributions: those of ``visolo`` and ``visolo-gpu`` that are installed.
        runtimes: installed ONNX Runtime packages with versions.
        packages: versions of all packages by name; None if not installed.
        nvidia: the driver.
        backends: whether each library starts.
    """
    problems = [*_two_of_one(distributions, runtimes), *_two_cudas(runtimes, packages)]
    if not backends["onnxruntime"].usable:
        problems.append(
            f"no engine can run a bundle ({backends['onnxruntime'].detail}): "
            f"run pip install {RUNTIMES[GPU if GPU in distributions else CPU]}"
        )
    for_gpus = [name for name in (RUNTIMES[GPU], "tensorrt", "pycuda") if packages.get(name)]
    if not problems and (GPU in distributions or for_gpus):
        problems += dict.fromkeys(_gpu_problems(runtimes, packages, nvidia, backends))
    return tuple(problems)


def idle_gpu(nvidia: DriverCheck, backends: Mapping[str, BackendCheck]) -> tuple[str, ...]:
    """A sentence about a GPU that no backend uses; none if there is no such GPU.

    PyTorch is not started, so nothing is said where it is installed.

    Args:
        nvidia: the driver.
        backends: whether each library starts.
    """
    started = backends["onnxruntime"].providers or ()
    used = [name for name in ("tensorrt", "tensorrt-rtx", "torch") if backends[name].usable]
    if nvidia.driver is None or used or "CUDAExecutionProvider" in started:
        return ()
    return (f"nothing here uses {nvidia.driver.gpus[0].name}: run {pip_install('gpu')}",)


def _two_of_one(distributions: Sequence[str], runtimes: Mapping[str, str]) -> Iterator[str]:
    if len(distributions) > 1:
        everything = " ".join([*distributions, *runtimes])
        yield (
            f"{' and '.join(distributions)} are installed together and own the same files: run "
            f"pip uninstall -y {everything} && pip install {GPU}"
        )
    elif len(runtimes) > 1:
        names = " and ".join(runtimes)
        kept = RUNTIMES[GPU] if RUNTIMES[GPU] in runtimes else RUNTIMES[CPU]
        yield (
            f"{names} are installed together and overwrite each other's files, which disables the "
            f"GPU silently: run pip uninstall -y {' '.join(runtimes)} && pip install {kept}"
        )
    elif GPU in distributions and list(runtimes) == [RUNTIMES[CPU]]:
        yield (
            f"{RUNTIMES[CPU]} is installed in place of {RUNTIMES[GPU]} and computes on the CPU: "
            f"run pip uninstall -y {RUNTIMES[CPU]} && pip install {RUNTIMES[GPU]}"
        )


def _two_cudas(runtimes: Mapping[str, str], packages: Mapping[str, str | None]) -> Iterator[str]:
    cuda = _cuda(runtimes)
    for name in _FOR_CUDA:
        both = [f"{name}-cu12", f"{name}-cu13"]
        installed = [each for each in both if packages.get(each)]
        if len(installed) == 2:
            kept = f"{name}-cu{cuda or 13}"
            yield (
                f"{' and '.join(both)} are installed together and overwrite each other's files: "
                f"run pip uninstall -y {' '.join(both)} && pip install {kept}"
            )
        elif installed and cuda and installed != [f"{name}-cu{cuda}"]:
            yield (
                f"{RUNTIMES[GPU]} {runtimes[RUNTIMES[GPU]]} is for CUDA {cuda} and {installed[0]} "
                f"is not: run pip uninstall -y {installed[0]} && {pip_install(f'cuda{cuda}')}"
            )


def _gpu_problems(
    runtimes: Mapping[str, str],
    packages: Mapping[str, str | None],
    nvidia: DriverCheck,
    backends: Mapping[str, BackendCheck],
) -> Iterator[str]:
    if nvidia.driver is None:
        yield nvidia.fault
        return
    cuda = _cuda(runtimes)
    tensorrt = next((each for each in (12, 13) if packages.get(f"tensorrt-cu{each}")), 0)
    try:
        check_driver(nvidia.driver, cuda, RUNTIMES[GPU])
        check_driver(nvidia.driver, tensorrt, f"tensorrt-cu{tensorrt}")
    except NotHereError as error:
        yield str(error)
        return
    onnxruntime = backends["onnxruntime"]
    provider = "CUDAExecutionProvider"
    if cuda and provider not in (onnxruntime.providers or ()):
        yield onnxruntime.refused.get(provider) or (
            "onnxruntime-gpu is installed, but its CUDA provider does not start here and it would "
            "compute on the CPU: check the driver, CUDA and cuDNN"
        )
    provider = "TensorrtExecutionProvider"
    if packages.get("tensorrt") or tensorrt:
        if provider in onnxruntime.refused:
            yield onnxruntime.refused[provider]
        if not backends["tensorrt"].usable:
            yield backends["tensorrt"].detail
    if packages.get("tensorrt-rtx") and not backends["tensorrt-rtx"].usable:
        yield backends["tensorrt-rtx"].detail


def _cuda(runtimes: Mapping[str, str]) -> int:
    """The CUDA that the installed ONNX Runtime is for; 0 if it is not for GPUs."""
    if RUNTIMES[GPU] not in runtimes:
        return 0
    major, minor, *_ = map(int, runtimes[RUNTIMES[GPU]].split(".")[:2])
    return 12 if (major, minor) < FIRST_FOR_CUDA_13 else 13
