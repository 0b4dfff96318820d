"""What the exporters of all formats share: one file per graph, and example inputs to trace."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from visolo_core.contract import GRAPHS, MASKS, STREAMS, GraphName, GraphSpec
from visolo_core.nn import Visolo
from visolo_core.nn.backbone import fold_batch_norms
from visolo_core.nn.graphs import graph_modules

WriteGraph = Callable[[nn.Module, GraphSpec, Path], None]
"""Writes a module, whose inputs and outputs are those of the contract, into a file."""

_CPU = torch.device("cpu")
# Any lengths but 0 and 1, which exporters treat as constants.
_EXAMPLE = defaultdict(lambda: 4, {MASKS: 3, STREAMS: 2})


def export_graphs(
    write: WriteGraph,
    suffix: str,
    modules: Mapping[GraphName, nn.Module],
    contract: dict[GraphName, GraphSpec],
    folder: Path,
    report: Callable[[str], None],
) -> dict[GraphName, str]:
    """Write every graph of a network.

    Args:
        write: writes one graph to a file.
        suffix: of the files' names.
        modules: the graphs, such as :func:`exported_modules` returns.
        contract: names and shapes of all inputs and outputs.
        folder: where the files go; it exists.
        report: called with the name of each graph before it is exported.

    Returns:
        the file name of each graph.
    """
    files: dict[GraphName, str] = {}
    for graph in GRAPHS:
        report(graph)
        files[graph] = f"{graph}{suffix}"
        write(modules[graph], contract[graph], folder / files[graph])
    return files


def exported_modules(model: Visolo) -> dict[GraphName, nn.Module]:
    """The graphs of a copy of a network, with batch norms folded into the convolutions, since
    exporters may keep them separate."""
    return graph_modules(fold_batch_norms(model))


def example_inputs(spec: GraphSpec, device: torch.device = _CPU) -> tuple[Tensor, ...]:
    """Zeros with the type and shape of each input, in order."""
    return tuple(
        torch.zeros(tensor.sized(_EXAMPLE), dtype=getattr(torch, tensor.dtype), device=device)
        for tensor in spec.inputs
    )


def dynamic_shapes(spec: GraphSpec) -> tuple[dict[int, Any], ...]:
    """Which axes of the inputs may have any length, as ``torch.export`` expects it."""
    sides = {side for tensor in spec.inputs for side in tensor.shape if isinstance(side, str)}
    axes = {name: torch.export.Dim(name, min=1) for name in sides}
    return tuple(
        {axis: axes[side] for axis, side in enumerate(tensor.shape) if isinstance(side, str)}
        for tensor in spec.inputs
    )
