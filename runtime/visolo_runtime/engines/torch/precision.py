"""Float32 without TF32, and networks that compute in float16."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn

from visolo_core.nn.visolo import Visolo

_lock = Lock()
_inside = 0
_before: tuple[str, str] = ("none", "none")


@contextmanager
def exact_float32() -> Iterator[None]:
    """A block in which products and convolutions on NVIDIA's GPUs use no TF32, which has float16's
    precision. It does not change what a recorded CUDA graph does.

    The setting is one of the whole process. Blocks may overlap in several threads; the last to
    leave restores the setting that the first one found.
    """
    global _inside, _before
    matmul: Any = torch.backends.cuda.matmul
    conv: Any = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    with _lock:
        if _inside == 0:
            _before = matmul.fp32_precision, conv.fp32_precision
            matmul.fp32_precision = conv.fp32_precision = "ieee"
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                matmul.fp32_precision, conv.fp32_precision = _before


HALF_MODULES = (
    "backbone",
    "mask_branch",
    "tracking_branch",
    "category_branch.entry",
    "category_branch.before_memory",
    "category_branch.project",
    "category_branch.after_memory",
    "category_branch.classifier",
    "kernel_branch.before_memory",
    "kernel_branch.after_memory",
    "kernel_branch.predict",
    "memory.value",
)
"""The modules of a network that hold its convolutions."""


def in_half(network: Visolo, device: torch.device, float32_modules: Sequence[str] = ()) -> Visolo:
    """The same network with its convolutions in float16 (autocast); it is changed in place.

    What stays float32 is what stays so in fp16 graphs of the other formats: norms, the
    normalisation of the image, the memory read, sigmoids, the choice of cells and the decode graph.

    Args:
        network: in evaluation mode, on ``device``.
        device: where it runs.
        float32_modules: modules that stay float32 as a whole, such as ``backbone.layer1``.
    """
    half = [path for path in HALF_MODULES if not _within(path, float32_modules)]
    inside = [path for path in float32_modules if _within(path, half) and path not in half]
    for path in sorted(inside, key=len, reverse=True):  # from the inside out
        _replace(network, path, _InFloat32(network.get_submodule(path), device.type))
    for path in half:
        _replace(network, path, _InHalf(network.get_submodule(path), device.type))
    return network


def _within(path: str, modules: Sequence[str]) -> bool:
    return any(f"{path}.".startswith(f"{module}.") for module in modules)


def _replace(network: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    network.get_submodule(parent).register_module(name, module)


class _InFloat32(nn.Module):
    """A module that stays float32 inside one that does not."""

    def __init__(self, module: nn.Module, kind: str) -> None:
        super().__init__()
        self.module, self._kind = module, kind

    def forward(self, *inputs: Tensor) -> Any:
        with torch.autocast(self._kind, enabled=False):
            return self.module(*(each.float() for each in inputs))


class _InHalf(nn.Module):
    """Float32 in and out; autocast to float16 inside."""

    def __init__(self, module: nn.Module, kind: str) -> None:
        super().__init__()
        self.module, self._kind = module, kind
        _halve(module)

    def forward(self, *inputs: Tensor) -> Any:
        with torch.autocast(self._kind, torch.float16):
            outputs = self.module(*inputs)
        if isinstance(outputs, Tensor):
            return outputs.float()
        floats = (each.float() for each in outputs)
        return type(outputs)(*floats) if hasattr(outputs, "_fields") else tuple(floats)


def _halve(module: nn.Module) -> None:
    """Convert the weights of convolutions once, where autocast would do so for every frame."""
    if isinstance(module, nn.Conv2d):
        module.half()
    for child in module.children():
        if not isinstance(child, _InFloat32):
            _halve(child)
