"""Naming the device that engines run on: ``cpu``, ``cuda``, ``cuda:1``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from visolo_core.errors import VisoloError

DeviceKind = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class DeviceName:
    """A processor, or one of the GPUs."""

    kind: DeviceKind
    index: int = 0
    """of the GPU, as CUDA numbers them"""

    def __str__(self) -> str:
        return self.kind if self.kind == "cpu" else f"{self.kind}:{self.index}"


def parse_device(text: str) -> DeviceName | None:
    """A device by name; None for an empty text, which leaves it to the backend.

    Raises:
        VisoloError: if it is not the name of a device.

    >>> parse_device("cuda:1")
    DeviceName(kind='cuda', index=1)
    >>> str(parse_device("cuda"))
    'cuda:0'
    """
    if not text:
        return None
    if text == "cpu":
        return DeviceName("cpu")
    matched = re.fullmatch(r"cuda(?::(\d{1,3}))?", text, re.ASCII)
    if matched is None:
        raise VisoloError(f"device '{text}' is unknown: choose cpu, cuda or cuda:N")
    return DeviceName("cuda", int(matched[1] or 0))
