"""Reading files of tensors without ever running code from them."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import Tensor

from visolo_core.errors import VisoloError
from visolo_core.files import reason
from visolo_core.nn.storage_claims import check_claims

_LISTED = 20  # most names listed in a message


def check_state(
    state: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], path: Path
) -> None:
    """Hold the tensors of a file against what a network needs.

    Args:
        state: tensors by name, as read from ``path``.
        shapes: the shape of every tensor that must be there, by name.
        path: for the message.

    Raises:
        VisoloError: with every missing, unknown, misshaped and non-finite tensor by name.
    """
    complaints = []
    missing = [name for name in shapes if name not in state]
    extra = [name for name in state if name not in shapes]
    misshaped = [
        f"{name} ({_shape_of(state[name])} instead of {_written(shape)})"
        for name, shape in shapes.items()
        if name in state and not (is_plain(state[name]) and tuple(state[name].shape) == shape)
    ]
    # A tensor of another shape is not looked into: it may claim any size.
    broken = [
        name
        for name, shape in shapes.items()
        if is_plain(state.get(name))
        and tuple(state[name].shape) == shape
        and not bool(state[name].isfinite().all())
    ]
    for names, kind in (
        (missing, "missing"),
        (extra, "unknown"),
        (misshaped, "misshaped"),
        (broken, "with NaN or infinity"),
    ):
        if names:
            complaints.append(f"{len(names)} {kind}: {_listed(names)}")
    if complaints:
        raise VisoloError(f"'{path}' does not fit the network: {'; '.join(complaints)}")


def is_plain(value: Any) -> TypeGuard[Tensor]:
    """Whether a value is a tensor of real numbers, each of which is in the file: not sparse, not
    quantised, and not a few numbers that are repeated to any size."""
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_quantized:
        return False
    if value.is_complex() or value.device.type != "cpu":
        return False
    return value.numel() * value.element_size() <= value.untyped_storage().nbytes()


def _listed(names: list[str]) -> str:
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")


def _shape_of(value: Any) -> str:
    if not isinstance(value, Tensor):
        return type(value).__name__
    return f"{'' if is_plain(value) else 'a special tensor of '}{_written(value.shape)}"


def _written(shape: tuple[int, ...]) -> str:
    return "x".join(str(side) for side in shape) or "scalar"


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file.

    Raises:
        VisoloError: if it is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise VisoloError(f"'{path}' is damaged or cut short: {error}") from error


def load_tensors(path: Path) -> dict[str, Any]:
    """The dictionary in a file of ``torch.save``, tensors and plain values only.

    Raises:
        VisoloError: if the file is missing, damaged, holds anything else, or is not a dictionary.
    """
    try:
        with warnings.catch_warnings():
            # PyTorch warns about pickles that it then refuses.
            warnings.simplefilter("ignore")
            check_claims(path)
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise VisoloError(f"cannot read '{path}': {reason(error)}") from error
    except pickle.UnpicklingError as error:
        raise VisoloError(
            f"'{path}' was not opened, since it holds more than tensors or is not a checkpoint: "
            f"{_first_sentence(error)}"
        ) from error
    except Exception as error:  # of damaged pickles, of any kind
        raise VisoloError(f"'{path}' is not a checkpoint, or is damaged or cut short") from error
    if not isinstance(loaded, dict):
        raise VisoloError(f"'{path}' is not a checkpoint: it holds a {type(loaded).__name__}")
    return loaded


def _first_sentence(error: Exception) -> str:
    """The informative part of PyTorch's long messages."""
    text = " ".join(str(error).split()) or type(error).__name__
    for mark in ("WeightsUnpickler error: ", "PytorchStreamReader "):
        text = text.partition(mark)[2] or text
    return text.split(". ")[0].split(" Please ")[0].strip()[:200]
