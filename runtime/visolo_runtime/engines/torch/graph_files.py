"""Loading the graphs of a bundle that are in PyTorch's formats."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any

import torch

from visolo_core.errors import VisoloError
from visolo_runtime.engines.torch.archive import plain_program

Function = Callable[..., Any]


def load_graph(format: str, file: Path, device: torch.device) -> Function:
    """A graph, on a device.

    Args:
        format: ``torchscript``, ``pt2`` or ``aotinductor``.
        file: of the graph.
        device: to run it on; ``aotinductor`` was compiled for it.

    Raises:
        VisoloError: if the file is not in this format.
    """
    try:
        if format == "torchscript":
            return _script(file, device)
        if format == "aotinductor":
            return _compiled(file, device)
        return _program(file, device)
    except Exception as error:  # PyTorch raises many types
        reason = " ".join(str(error).split())[:200]
        raise VisoloError(f"PyTorch cannot load '{file}': {reason}") from error


def _script(file: Path, device: torch.device) -> Function:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that TorchScript is deprecated
        script: Any = torch.jit.load(str(file), map_location=device)  # type: ignore[no-untyped-call]
        if device.type != "cpu":
            _move_constants(script.graph, device)
    function: Function = script
    return function


def _move_constants(graph: Any, device: torch.device) -> None:
    """Let a script create its tensors on a device: the tracer writes down the one it traced on."""
    for node in graph.findAllNodes("prim::Constant"):
        if node.output().type().kind() == "DeviceObjType":
            with graph.insert_point_guard(node):
                moved = graph.insertConstant(device)
            node.output().replaceAllUsesWith(moved)


def _program(file: Path, device: torch.device) -> Function:
    program = torch.export.load(plain_program(file))
    if device.type != "cpu":
        from torch.export.passes import move_to_device_pass

        program = move_to_device_pass(program, device)
    function: Function = program.module()
    return function


def _compiled(file: Path, device: torch.device) -> Function:
    from torch._inductor import aoti_load_package

    if device.type == "cpu":
        function: Function = aoti_load_package(str(file))
        return function
    # Its own locking asks the GPU for events, which no recording of a CUDA graph survives.
    alone = aoti_load_package(str(file), run_single_threaded=True, device_index=device.index)
    lock = Lock()

    def one_at_a_time(*inputs: Any) -> Any:
        with lock:
            return alone(*inputs)

    return one_at_a_time
