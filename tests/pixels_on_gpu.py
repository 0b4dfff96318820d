"""Frames of other libraries, and plans that resize them, on a GPU that is none."""

from __future__ import annotations

from pathlib import Path

from helpers import Array
from visolo_core.pixels import PixelGraph, pixel_contract


class OnGpu:
    """An array of another library, which says on which stream it is being made."""

    def __init__(self, values: Array, stream: int | None = None) -> None:
        self._values = values
        self.__cuda_array_interface__ = {
            "shape": values.shape,
            "typestr": "|u1",
            "data": (values.ctypes.data, False),
            "version": 3,
            "strides": values.strides,
            "stream": stream,
        }


def write_plans(folder: Path, size: tuple[int, int]) -> dict[PixelGraph, Path]:
    """What a played TensorRT loads as the engines that resize frames to a size."""
    from visolo_core.nn.pixels import pixel_modules
    from visolo_export.onnx_export import write_onnx

    files: dict[PixelGraph, Path] = {}
    for graph, module in pixel_modules().items():
        write_onnx(module, pixel_contract(size)[graph], folder / f"{graph}.onnx")
        files[graph] = folder / f"{graph}.engine"
        files[graph].write_bytes(str(folder / f"{graph}.onnx").encode())
    return files
