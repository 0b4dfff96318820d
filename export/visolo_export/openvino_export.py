"""The graphs as OpenVINO's own files, converted from the ONNX files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from visolo_core.contract import GRAPHS, GraphName
from visolo_core.distribution import pip_install
from visolo_core.errors import VisoloError
from visolo_runtime.engines.openvino.library import import_openvino


def check_openvino() -> Any:
    """The package ``openvino``.

    Raises:
        VisoloError: if it is not installed.
    """
    try:
        return import_openvino()
    except ImportError as error:
        raise VisoloError(f"format openvino needs OpenVINO: {pip_install('openvino')}") from error


def export_openvino(
    onnx_files: dict[GraphName, Path],
    folder: Path,
    report: Callable[[str], None],
) -> dict[GraphName, str]:
    """Write ``frame.xml`` and ``frame.bin`` (its weights), and the same for the other graphs.

    Args:
        onnx_files: the ONNX file of each graph.
        folder: where the files go; it exists.
        report: called with the name of each graph before it is converted.

    Returns:
        the name of each graph's ``.xml`` file; its weights are in the ``.bin`` file beside it.

    Raises:
        VisoloError: if OpenVINO is not installed.
    """
    openvino = check_openvino()
    files: dict[GraphName, str] = {}
    for graph in GRAPHS:
        report(graph)
        files[graph] = f"{graph}.xml"
        model = openvino.convert_model(str(onnx_files[graph]))
        # Weights keep the precision that they have in the ONNX graph.
        openvino.save_model(model, str(folder / files[graph]), compress_to_fp16=False)
    return files
