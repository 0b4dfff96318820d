"""The three graphs of the contract, as thin modules around the network.

They are exported, and the PyTorch backend runs them as the reference. Images are uint8
[B, H, W, 3], as video decoders produce them. The cast comes first because TensorRT accepts a uint8
input only where a cast reads it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from visolo_core.contract import GraphName
from visolo_core.nn.branches import decode_masks
from visolo_core.nn.visolo import Visolo


class FrameGraph(nn.Module):
    """image, memory -> everything that the network computes for the frame."""

    def __init__(self, model: Visolo) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, image: Tensor, memory_key: Tensor, memory_value: Tensor, memory_valid: Tensor
    ) -> tuple[Tensor, ...]:
        """Shapes: see ``visolo_core.contract``; in the order of ``FrameOutput``."""
        pixels = image.float().permute(0, 3, 1, 2)
        # A plain tuple: a named one cannot be written into a pt2 file.
        return tuple(self.model.frame(pixels, memory_key, memory_value, memory_valid))


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
        "memory": MemoryGraph(model),
        "decode": DecodeGraph(),
    }
    for graph in graphs.values():
        graph.eval()
    return graphs
