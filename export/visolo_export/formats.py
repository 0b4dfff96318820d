"""Formats and precisions of graphs by name, and the options for exporting them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

from visolo_core.errors import VisoloError
from visolo_runtime.bundle import Format, Precision

FORMATS: tuple[Format, ...] = get_args(Format)
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
TRITON = "triton"
"""Named among the formats, it puts the bundle into a model repository."""
_ON_CPUS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
_PRECISIONS: dict[Format, tuple[Precision, ...]] = {
    "onnx": _ON_CPUS,
    "openvino": _ON_CPUS,
    "torchscript": ("fp32",),
    "pt2": ("fp32",),
    "aotinductor": ("fp32", "fp16"),
    "tensorrt-rtx": PRECISIONS,
    "tensorrt": PRECISIONS,
}
QUANTISED: tuple[Precision, ...] = ("int8", "fp8")
"""Precisions whose ranges are calibrated."""


@dataclass(frozen=True)
class CalibrationOptions:
    """How the ranges of int8 and fp8 are calibrated."""

    source: str
    """A video, a folder of frames, or a data set."""
    frames: int = 64
    keep_share: float = 0.1
    """Share of the convolutions that are not quantised: those that would cost most accuracy."""


@dataclass(frozen=True)
class EngineOptions:
    """How TensorRT engines are built."""

    targets: tuple[str, ...] = ()
    """GPUs to build for, such as ``sm86``; if empty, the GPU of this machine."""
    timing_cache: Path | None = None
    """Read and written, so that the next build is faster."""


def listed(texts: Iterable[str]) -> list[str]:
    """Words of texts, each of which may hold several separated by commas; each word once.

    >>> listed(["sm86,sm89", "sm86"])
    ['sm86', 'sm89']
    """
    words = (word.strip() for text in texts for word in text.split(","))
    return list(dict.fromkeys(word for word in words if word))


def parse_formats(texts: Iterable[str]) -> list[Format]:
    """Formats by name.

    Raises:
        VisoloError: if none is named, or one is unknown.

    >>> parse_formats(["onnx,openvino"])
    ['onnx', 'openvino']
    """
    return cast("list[Format]", _known("format", texts, FORMATS))


def apart_from_triton(texts: Iterable[str]) -> tuple[list[str], bool]:
    """The names of formats without ``triton``, and whether it was among them.

    Triton is no format of graphs: a model repository holds a bundle of any of them, by default of
    ``onnx``.

    >>> apart_from_triton(["openvino,triton"]), apart_from_triton(["triton"])
    ((['openvino'], True), (['onnx'], True))
    """
    words = listed(texts)
    if TRITON not in words:
        return words, False
    return [word for word in words if word != TRITON] or ["onnx"], True


def parse_precisions(texts: Iterable[str], formats: Iterable[Format]) -> list[Precision]:
    """Precisions by name.

    Raises:
        VisoloError: if none is named, one is unknown, or a format does not support it.

    >>> parse_precisions(["fp16,fp32"], ["onnx"])
    ['fp16', 'fp32']
    """
    words = _known("precision", texts, PRECISIONS)
    for format in formats:
        wrong = [word for word in words if word not in _PRECISIONS[format]]
        if wrong and _PRECISIONS[format] == ("fp32",):
            raise VisoloError(f"format {format} is float32 only: leave --precision out for it")
        if wrong:
            whose = "" if wrong[0] in _ON_CPUS else ", which is for TensorRT"
            raise VisoloError(
                f"format {format} has no {wrong[0]}{whose}: choose from "
                f"{', '.join(_PRECISIONS[format])}"
            )
    return cast("list[Precision]", words)


def _known(what: str, texts: Iterable[str], choices: Sequence[str]) -> list[str]:
    words = listed(texts)
    unknown = [word for word in words if word not in choices]
    if unknown or not words:
        wrong = f"{what} '{unknown[0]}' is unknown" if unknown else f"no {what} was named"
        raise VisoloError(f"{wrong}: choose from {', '.join(choices)}")
    return words
