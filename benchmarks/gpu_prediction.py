"""Predicts from data sheets how long a frame takes on GPUs that it has not been run on.

The prediction is for float16, with the three graphs run one after the other and every number that a
layer reads or writes passing through the GPU's memory. The host's work between the graphs is not
included.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.layer_counts import Layer


@dataclass(frozen=True)
class Card:
    """A GPU according to its data sheet."""

    name: str
    tflops: float
    """float16 on tensor cores with sums in float32, without sparsity"""
    gbs: float
    """memory, 1e9 bytes a second"""
    device: str = ""
    """how its driver's name for it ends; empty if that is its name here"""


# From NVIDIA's data sheets (T4, L4, A10, H100, Jetson Orin) and white papers (GeForce). Where they
# give sparse figures only: half of sparse float16 for L4 and H100; a quarter of the GPU's sparse
# int8 for Jetson. GeForce halves the rate where sums are float32: 28 x 4 tensor cores x 64
# multiply-adds x 1.777 GHz for RTX 3060, an eighth of 466 sparse float8 TFLOPS for RTX 4070.
CARDS = (
    Card("Jetson Orin Nano 8GB", 10.0, 68.0),
    Card("Jetson Orin Nano 8GB, Super mode", 16.7, 102.0),
    Card("Jetson AGX Orin 64GB", 42.5, 204.8),
    Card("RTX 2080 Ti", 53.8, 616.0),
    Card("RTX 3060 12GB", 25.5, 360.0, "RTX 3060"),
    Card("RTX 4070", 58.3, 504.0),
    Card("T4", 65.0, 300.0),
    Card("L4", 121.0, 300.0),
    Card("A10", 125.0, 600.0),
    Card("H100 PCIe", 756.0, 2000.0),
    Card("H100 SXM", 989.5, 3350.0, "H100 80GB HBM3"),
)
ASSUMED_SHARE = 0.3
"""share of a card's rates that layers of this size reach"""
ASSUMED_START_MS = 0.003
"""time from one layer to the next on a GPU"""


def card_named(device: str) -> Card | None:
    """The card of a GPU; None if it is not among ``CARDS``.

    Args:
        device: the driver's name for the GPU.

    >>> card_named("NVIDIA GeForce RTX 3060").name
    'RTX 3060 12GB'
    >>> card_named("NVIDIA GeForce RTX 4070 Ti")
    """
    return next((each for each in CARDS if device.endswith(f" {each.device or each.name}")), None)


def predicted_ms(
    layers: Iterable[Layer], card: Card, share: float = ASSUMED_SHARE, start: float = 0.0
) -> float:
    """Predict the milliseconds that layers take on a GPU in float16.

    Args:
        layers: of all graphs of a frame.
        card: the GPU.
        share: share of the card's rates that the layers reach.
        start: milliseconds from one layer to the next.
    """
    return sum(
        start
        + max(
            2 * layer.macs / card.tflops / 1e9,
            2 * (layer.weights + layer.inputs + layer.outputs) / card.gbs / 1e6,
        )
        / share
        for layer in layers
    )
