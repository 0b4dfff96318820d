"""What the exporters of all formats share: one file per graph, and example inputs to trace."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
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

# Any lengths but 0 and 1, which exporters treat as constants.
_EXAMPLE = defaultdict(lambda: 4, {MASKS: 3, STREAMS: 2})


def export_graphs(
    write: WriteGraph,
    suffix: str,
    model: Visolo,
    contract: dict[GraphName, GraphSpec],
    folder: Path,
    report: Callable[[str], None],
) -> dict[GraphName, str]:
    """Write every graph of a network.

    Batch norms are folded into the convolutions first, since exporters may keep them separate.

    Args:
        write: writes one graph to a file.
        suffix: of the files' names.
        model: the network.
        contract: names and shapes of all inputs and outputs.
        folder: where the files go; it exists.
        report: called with the name of each graph before it is exported.

    Returns:
        the file name of each graph.
    """
    modules = graph_modules(fold_batch_norms(model))
    files: dict[GraphName, str] = {}
    for graph in GRAPHS:
        report(graph)
        files[graph] = f"{graph}{suffix}"
        write(modules[graph], contract[graph], folder / files[graph])
    return files


def example_inputs(spec: GraphSpec) -> tuple[Tensor, ...]:
    """Zeros with the type and shape of each input, in order."""
    return tuple(
        torch.zeros(tensor.sized(_EXAMPLE), dtype=getattr(torch, tensor.dtype))
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
