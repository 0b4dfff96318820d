"""The graphs of the contract, as thin modules around the network.

They are exported, and the PyTorch backend runs them as the reference. Images are uint8
[B, H, W, 3], as video decoders produce them. The cast comes first because TensorRT accepts a uint8
input only where a cast reads it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from visolo_core.contract import CANDIDATES, GraphName
from visolo_core.nn.branches import decode_masks
from visolo_core.nn.choosing import best_cells, grid_weights
from visolo_core.nn.visolo import Visolo


class FrameGraph(nn.Module):
    """image, memory -> everything that the network computes about the cells, and the best cells."""

    def __init__(self, model: Visolo) -> None:
        super().__init__()
        self.model = model
        self.places = min(CANDIDATES, model.config.cells)

    def forward(
        self,
        image: Tensor,
        memory_key: Tensor,
        memory_value: Tensor,
        memory_valid: Tensor,
        recent_key: Tensor,
        recent_valid: Tensor,
        score_threshold: Tensor,
    ) -> tuple[Tensor, ...]:
        """Shapes: see ``visolo_core.contract``; first ``ChosenCells``, then ``FrameOutput``."""
        pixels = image.float().permute(0, 3, 1, 2)
        frame = self.model.frame(pixels, memory_key, memory_value, memory_valid)
        chosen = best_cells(
            frame.scores,
            grid_weights(frame.query, recent_key, recent_valid),
            score_threshold,
            self.places,
            frame.query,
            frame.key,
            frame.kernels,
        )
        # A plain tuple: a named one cannot be written into a pt2 file.
        return (*chosen, *frame)


class MaskGraph(nn.Module):
    """res2, res3, res4 -> mask features [B, D, H/4, W/4]."""

    def __init__(self, model: Visolo) -> None:
        super().__init__()
        self.mask_branch = model.mask_branch

    def forward(self, res2: Tensor, res3: Tensor, res4: Tensor) -> Tensor:
        """Shapes: see ``visolo_core.contract``."""
        features: Tensor = self.mask_branch(res2, res3, res4)
        return features


class MemoryGraph(nn.Module):
    """features [B, 2, D, rows, columns] -> value [B, 2, D, S], what a slot stores."""

    def __init__(self, model: Visolo) -> None:
        super().__init__()
        self.memory = model.memory

    def forward(self, features: Tensor) -> Tensor:
        """Shapes: see ``visolo_core.contract``."""
        return self.memory.encode(features)


class DecodeGraph(nn.Module):
    """mask features, chosen kernels -> binary masks and the sums needed to select among them."""

    def forward(
        self, mask_features: Tensor, kernels: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Shapes: see ``visolo_core.contract``."""
        logits = decode_masks(mask_features, kernels.unsqueeze(0)).squeeze(0)
        inside = logits > 0  # where the probability is over one half
        ones = inside.flatten(1).float()
        probability_sum = (logits.flatten(1).sigmoid() * ones).sum(dim=1)
        # The cast to uint8 comes last: TensorRT supports that type only at the edges of a graph.
        # Pixel counts are exact in float32 up to 16.7 million.
        return inside.to(torch.uint8), ones.sum(dim=1), probability_sum, ones @ ones.T


def graph_modules(model: Visolo) -> dict[GraphName, nn.Module]:
    """The graphs of a network by name, in evaluation mode."""
    graphs: dict[GraphName, nn.Module] = {
        "frame": FrameGraph(model),
        "mask": MaskGraph(model),
        "decode": DecodeGraph(),
        "memory": MemoryGraph(model),
    }
    for graph in graphs.values():
        graph.eval()
    return graphs
