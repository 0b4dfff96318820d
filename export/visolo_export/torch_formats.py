"""The graphs in PyTorch's own formats.

``torchscript`` is read by every PyTorch since 1.0, also from C++, and is deprecated.
``pt2`` is its successor: the program that ``torch.export`` traced, as operators and weights.
``aotinductor`` is that program compiled by this machine's C++ compiler for its processor, or by
Triton for its GPU.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import nn

from visolo_core.contract import GraphSpec
from visolo_core.errors import VisoloError
from visolo_export.graph_export import WriteGraph, dynamic_shapes, example_inputs
from visolo_runtime.engines.torch.precision import exact_float32

_CPU = torch.device("cpu")


def write_torchscript(module: nn.Module, spec: GraphSpec, file: Path) -> None:
    """Write a graph as TorchScript."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # TorchScript is deprecated; shapes are constants
        traced = torch.jit.trace(module, example_inputs(spec), check_trace=False)  # type: ignore[no-untyped-call]
        torch.jit.save(torch.jit.freeze(traced), str(file))


def write_pt2(module: nn.Module, spec: GraphSpec, file: Path) -> None:
    """Write a graph as ``torch.export`` saves it."""
    torch.export.save(_program(module, spec), file)


def aotinductor_writer(device: torch.device) -> WriteGraph:
    """A function that writes a graph as machine code for a device of this machine.

    It takes minutes. The modules that it is given are on that device.
    """

    def write(module: nn.Module, spec: GraphSpec, file: Path) -> None:
        from torch._inductor import aoti_compile_and_package

        program = _program(module, spec, device)
        try:
            with torch.no_grad(), exact_float32():
                aoti_compile_and_package(program, package_path=str(file))
        except Exception as error:  # compilers fail in many ways
            reason = " ".join(str(error).split())[:200]
            raise VisoloError(f"AOTInductor cannot compile '{file.name}': {reason}") from error

    return write


AOTINDUCTOR_SUFFIX = ".so.pt2"
WRITERS: dict[str, tuple[WriteGraph, str]] = {
    "torchscript": (write_torchscript, ".ts"),
    "pt2": (write_pt2, ".pt2"),
}
"""The function that writes each format, and the suffix of its files. For ``aotinductor``, which is
compiled for a device, it is :func:`aotinductor_writer` that gives the function."""


def check_compiler() -> None:
    """Check that AOTInductor finds a C++ compiler.

    Raises:
        VisoloError: if it finds none.
    """
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        raise VisoloError(
            "format aotinductor needs a C++ compiler: install g++, or use --format pt2"
        ) from error


def _program(
    module: nn.Module, spec: GraphSpec, device: torch.device = _CPU
) -> torch.export.ExportedProgram:
    inputs = example_inputs(spec, device)
    return torch.export.export(module, inputs, dynamic_shapes=dynamic_shapes(spec))
