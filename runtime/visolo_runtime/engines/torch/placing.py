"""Devices of PyTorch, what is compiled for them, and networks placed on them."""

from __future__ import annotations

import platform
import warnings
from collections.abc import Sequence

import torch
from torch import nn

from visolo_core.contract import GraphName
from visolo_core.errors import NotHereError
from visolo_core.nn.backbone import fold_batch_norms
from visolo_core.nn.graphs import graph_modules
from visolo_core.nn.visolo import Visolo
from visolo_runtime.bundle import GraphFiles
from visolo_runtime.engines.device_name import DeviceName
from visolo_runtime.engines.torch.precision import in_half

_CUDA_TARGET = "cuda "


def torch_device(name: DeviceName) -> torch.device:
    """A device of PyTorch.

    Raises:
        NotHereError: if PyTorch cannot use it here.
    """
    if name.kind == "cpu":
        return torch.device("cpu")
    if torch.version.cuda is None:
        raise NotHereError(
            f"PyTorch {torch.__version__} is for CPUs only, so there is no {name}: install a build "
            "for CUDA from https://pytorch.org"
        )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")  # where a driver is too old, PyTorch only warns
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name.index < count:
        return torch.device("cuda", name.index)
    reason = " ".join(str(caught[0].message).split())[:200] if caught else ""
    raise NotHereError(
        f"there is no {name}: PyTorch {torch.__version__} finds {count} GPUs here; check "
        f"nvidia-smi and 'visolo doctor'{f' ({reason})' if reason else ''}"
    )


def compiled_for(device: torch.device) -> str:
    """What AOTInductor compiles for on a device of this machine, such as ``x86_64 AVX512`` or
    ``cuda sm90``."""
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        return f"{_CUDA_TARGET}sm{major}{minor}"
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"


def compiled_kind(graphs: GraphFiles) -> DeviceName:
    """The kind of device that AOTInductor's graphs were compiled for."""
    return DeviceName("cuda" if graphs.targets[0].startswith(_CUDA_TARGET) else "cpu")


def check_compiled(graphs: GraphFiles, device: DeviceName) -> None:
    """Check that AOTInductor's machine code was compiled for a device of this machine.

    Raises:
        NotHereError: if it was compiled by another PyTorch or for another kind of processor, or
            there is no such device.
    """
    again = f"run visolo export --format aotinductor --device {device.kind} on this machine"
    if compiled_kind(graphs).kind != device.kind:
        raise NotHereError(
            f"compiled for {graphs.targets[0]}, not for {device}: leave --device out, or {again}"
        )
    built, here = (graphs.library, *graphs.targets), compiled_for(torch_device(device))
    if built != (torch.__version__, here):
        raise NotHereError(
            f"compiled by PyTorch {' for '.join(map(str, built))}, but this is PyTorch "
            f"{torch.__version__} on {here}: {again}"
        )


def modules_on(
    network: Visolo,
    device: torch.device,
    half: bool = False,
    float32_modules: Sequence[str] = (),
) -> dict[GraphName, nn.Module]:
    """The graphs of a copy of a network on a device, with batch norms folded into convolutions; on
    a GPU with the channels of an image side by side, as tensor cores read them.

    Args:
        network: in evaluation mode.
        device: for the copy.
        half: convolutions in float16.
        float32_modules: modules that stay float32 nevertheless, such as ``backbone.layer1``.
    """
    copy = fold_batch_norms(network).to(device)
    if device.type == "cuda":
        copy = copy.to(memory_format=torch.channels_last)
    if half:
        copy = in_half(copy, device, float32_modules)
    return graph_modules(copy)
