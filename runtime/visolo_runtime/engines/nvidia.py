"""NVIDIA's driver: which CUDA it supports and which GPUs it has.

It is asked through ctypes, without any package, so that the packages which need a GPU are not
started where they would fail in ways of their own.
"""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from typing import Any

from visolo_core.distribution import pip_install
from visolo_core.errors import NotHereError

LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
FIRST_DRIVERS = {12: 525, 13: 580}
"""The first driver for each CUDA, from NVIDIA's table of minor version compatibility."""
_NO_DEVICE, _MISMATCH = 100, 803  # CUDA_ERROR_NO_DEVICE, CUDA_ERROR_SYSTEM_DRIVER_MISMATCH
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR


@dataclass(frozen=True)
class Gpu:
    """A GPU that the driver can use."""

    name: str
    architecture: str
    """such as ``sm86``"""
    memory_bytes: int


@dataclass(frozen=True)
class Driver:
    """A driver with at least one GPU."""

    cuda: tuple[int, int]
    """the newest CUDA that it supports"""
    gpus: tuple[Gpu, ...]


def find_driver(library: str = LIBRARY) -> Driver:
    """The driver of this machine.

    Args:
        library: name or path of its library.

    Raises:
        NotHereError: if there is none, or it finds no GPU.
    """
    try:
        driver = ctypes.CDLL(library)
    except OSError as error:
        raise NotHereError(
            f"there is no NVIDIA driver here ({LIBRARY} is missing): install driver "
            f"{FIRST_DRIVERS[13]} or later, or start the container with --gpus all"
        ) from error
    status = driver.cuInit(0)
    if status == _NO_DEVICE:
        raise NotHereError("the NVIDIA driver finds no GPU: check nvidia-smi, CUDA_VISIBLE_DEVICES")
    if status == _MISMATCH:
        raise NotHereError(
            "the NVIDIA driver's library and kernel module are of different versions: restart the "
            "machine, or update the driver"
        )
    if status:
        raise NotHereError(
            f"the NVIDIA driver does not start (CUDA error {status}): run nvidia-smi"
        )
    version = _number(driver.cuDriverGetVersion)
    gpus = tuple(_gpu(driver, index) for index in range(_number(driver.cuDeviceGetCount)))
    return Driver((version // 1000, version % 1000 // 10), gpus)


def check_driver(driver: Driver, cuda: int, needed_by: str) -> None:
    """Make sure that a driver is new enough.

    Args:
        driver: of this machine.
        cuda: major version that is needed.
        needed_by: what needs it, for the message.

    Raises:
        NotHereError: if it is too old.
    """
    if driver.cuda[0] >= cuda:
        return
    supported = ".".join(map(str, driver.cuda))
    first = FIRST_DRIVERS.get(cuda)
    newer = f"to {first} or later" if first else f"to one for CUDA {cuda}"
    older = f", or run {pip_install('cuda12')}" if driver.cuda[0] == 12 else ""
    raise NotHereError(
        f"the NVIDIA driver supports CUDA {supported} and {needed_by} needs CUDA {cuda}: update "
        f"the driver {newer}{older}"
    )


def _number(function: Any, *arguments: Any) -> int:
    """What a function of the driver writes into its first argument; 0 if it fails."""
    number = ctypes.c_int()
    function(ctypes.byref(number), *arguments)
    return number.value


def _gpu(driver: Any, index: int) -> Gpu:
    device, name, memory = ctypes.c_int(), ctypes.create_string_buffer(256), ctypes.c_size_t()
    driver.cuDeviceGet(ctypes.byref(device), index)
    driver.cuDeviceGetName(name, len(name), device)
    driver.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
    capability = (_number(driver.cuDeviceGetAttribute, each, device) for each in (_MAJOR, _MINOR))
    return Gpu(name.value.decode(), "sm" + "".join(map(str, capability)), memory.value)
