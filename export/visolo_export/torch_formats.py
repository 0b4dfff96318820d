"""The three graphs in PyTorch's own formats.

``torchscript`` is read by every PyTorch since 1.0, from C++ too, and is on its way out.
``pt2`` is its successor: the program that ``torch.export`` found, as operators and weights.
``aotinductor`` is that program compiled, by the C++ compiler of this machine, for its processor.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from visolo_core.contract import GRAPHS, GraphName, GraphSpec
from visolo_core.errors import VisoloError
from visolo_core.nn import Visolo
from visolo_core.nn.backbone import fold_batch_norms
from visolo_core.nn.graphs import graph_modules
from visolo_export.examples import dynamic_shapes, example_inputs

Report = Callable[[str], None]


def export_torchscript(
    model: Visolo, contract: dict[GraphName, GraphSpec], folder: Path, report: Report
) -> dict[GraphName, str]:
    """Write ``frame.ts``, ``memory.ts`` and ``decode.ts``.

    Args:
        model: the network.
        contract: names and shapes of all inputs and outputs.
        folder: where the files go; it exists.
        report: told the name of each graph before it is exported.

    Returns:
        the file name of each graph.
    """
    modules, files = graph_modules(fold_batch_norms(model)), dict[GraphName, str]()
    for graph in GRAPHS:
        report(graph)
        files[graph] = f"{graph}.ts"
        _script(modules[graph], contract[graph], folder / files[graph])
    return files


def _script(module: nn.Module, spec: GraphSpec, file: Path) -> None:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # that TorchScript is deprecated; that shapes are constants
        traced = torch.jit.trace(module, example_inputs(spec), check_trace=False)  # type: ignore[no-untyped-call]
        torch.jit.save(torch.jit.freeze(traced), str(file))


def export_pt2(
    model: Visolo, contract: dict[GraphName, GraphSpec], folder: Path, report: Report
) -> dict[GraphName, str]:
    """Write ``frame.pt2``, ``memory.pt2`` and ``decode.pt2``; else as ``export_torchscript``."""
    modules, files = graph_modules(fold_batch_norms(model)), dict[GraphName, str]()
    for graph in GRAPHS:
        report(graph)
        files[graph] = f"{graph}.pt2"
        spec = contract[graph]
        torch.export.save(_program(modules[graph], spec), folder / files[graph])
    return files


def export_aotinductor(
    model: Visolo, contract: dict[GraphName, GraphSpec], folder: Path, report: Report
) -> dict[GraphName, str]:
    """Write ``frame.so.pt2`` and so on: machine code. Minutes; else as ``export_torchscript``.

    Raises:
        VisoloError: if there is no C++ compiler, or it fails.
    """
    from torch._inductor import aoti_compile_and_package

    check_compiler()
    modules, files = graph_modules(fold_batch_norms(model)), dict[GraphName, str]()
    for graph in GRAPHS:
        report(graph)
        files[graph] = f"{graph}.so.pt2"
        program = _program(modules[graph], contract[graph])
        try:
            with torch.no_grad():
                aoti_compile_and_package(program, package_path=str(folder / files[graph]))
        except Exception as error:  # of many kinds
            told = " ".join(str(error).split())[:200]
            raise VisoloError(f"AOTInductor cannot compile the {graph} graph: {told}") from error
    return files


def check_compiler() -> None:
    """Make sure that AOTInductor finds a C++ compiler.

    Raises:
        VisoloError: if it does not.
    """
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        raise VisoloError(
            "format aotinductor needs a C++ compiler: install g++, or take --format pt2"
        ) from error


def _program(module: nn.Module, spec: GraphSpec) -> torch.export.ExportedProgram:
    return torch.export.export(module, example_inputs(spec), dynamic_shapes=dynamic_shapes(spec))
