"""The graphs that resize frames, as ONNX and as TensorRT engines.

They depend on the size of the network's input alone, and are float32 in every precision.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from visolo_core.nn.pixels import pixel_modules
from visolo_core.pixels import PIXEL_GRAPHS, PixelGraph, pixel_contract, pixel_lengths
from visolo_export.onnx_export import write_onnx
from visolo_export.tensorrt_build import TensorRt


def write_pixel_graphs(size: tuple[int, int], folder: Path) -> dict[PixelGraph, Path]:
    """Write the graphs as ONNX files.

    Args:
        size: height and width of the network's input.
        folder: an existing folder for the files.
    """
    files = {graph: folder / f"{graph}.onnx" for graph in PIXEL_GRAPHS}
    for graph, file in files.items():
        file.write_bytes(_as_onnx(graph, size))
    return files


@cache
def _as_onnx(graph: PixelGraph, size: tuple[int, int]) -> bytes:
    with tempfile.TemporaryDirectory(prefix="visolo-") as folder:
        file = Path(folder) / f"{graph}.onnx"
        write_onnx(pixel_modules()[graph], pixel_contract(size)[graph], file)
        return file.read_bytes()


def build_pixel_engines(
    library: TensorRt,
    files: Mapping[PixelGraph, Path],
    size: tuple[int, int],
    folder: Path,
    targets: Sequence[str] = (),
    timing_cache: Path | None = None,
) -> None:
    """Build the engines, and write each with its sidecar.

    Args:
        library: builds them.
        files: the ONNX graphs.
        size: height and width of the network's input.
        folder: an existing folder for the engines.
        targets: as for :meth:`TensorRt.build`.
        timing_cache: likewise.

    Raises:
        VisoloError: if a graph cannot be built.
    """
    contract, lengths = pixel_contract(size), pixel_lengths(size)
    for graph, file in files.items():
        library.build(file, contract[graph], lengths, targets, timing_cache).write(folder, graph)
