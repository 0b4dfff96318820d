"""Settings of the network and of inference, and the named presets.

``ModelConfig`` is fixed by training and travels with the weights. ``InferenceConfig`` holds the
paper's thresholds and the size of the memory; it can be changed without touching a weight.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from visolo_core.errors import VisoloError

MOBILENET_PYRAMID = "mobilenet_v2_fpn"
MOBILENETS = ("mobilenet_v2", MOBILENET_PYRAMID)
BACKBONES = ("resnet50", "resnet18", *MOBILENETS)
MOBILENET_STEM = 32  # channels: MobileNetV2 has one width
BACKBONE_NORMS = ("frozen", "batch")
MOBILENET_CHANNELS = (24, 32, 96)  # after blocks 3, 6 and 13
_EXPANSIONS = {"resnet50": 4, "resnet18": 1}  # a stage's output over its inner channels
STRIDE = 16  # of the deepest backbone stage in use (res4)
MASK_STRIDE = 4  # of the mask features


@dataclass(frozen=True)
class ModelConfig:
    """Shape of the network.

    Raises:
        VisoloError: if the sizes do not fit together.
    """

    backbone: str = "resnet50"
    """``resnet50`` (the paper), ``resnet18`` or ``mobilenet_v2``, without the stages after stride
    16; or ``mobilenet_v2_fpn``, in which a stage at stride 32 adds to the one at stride 16."""
    backbone_width: int = 64
    """Channels of the backbone's stem and of a ResNet's first blocks; halving it halves every
    stage. MobileNetV2 has 32."""
    backbone_norm: str = "frozen"
    """``frozen``: four constants per channel, for a pretrained backbone (the paper).
    ``batch``: trainable batch norm, for training from scratch."""
    width: int = 256
    """Channels D of every branch; queries and keys have D/2."""
    mask_width: int | None = None
    """Channels inside the mask branch, where most of the arithmetic is; its output always has D.
    None means D."""
    groups: int = 32
    """Groups of every GroupNorm."""
    grid: tuple[int, int] = (12, 21)
    """Rows and columns of the cells; an object belongs to the cells around its centre."""
    classes: int = 40
    """Number of categories C."""
    input_size: tuple[int, int] = (352, 624)
    """Height and width of the network's input in pixels; multiples of 16."""

    def __post_init__(self) -> None:
        if self.backbone not in BACKBONES:
            raise VisoloError(
                f"backbone '{self.backbone}' is unknown: choose one of {', '.join(BACKBONES)}"
            )
        if self.backbone_norm not in BACKBONE_NORMS:
            raise VisoloError(
                f"backbone norm '{self.backbone_norm}' is unknown: "
                f"choose one of {', '.join(BACKBONE_NORMS)}"
            )
        if self.backbone_width < 1:
            raise VisoloError(f"a backbone needs at least one channel, not {self.backbone_width}")
        if self.backbone in MOBILENETS and self.backbone_width != MOBILENET_STEM:
            raise VisoloError(
                f"{self.backbone} has a stem of {MOBILENET_STEM} channels, not "
                f"{self.backbone_width}: set backbone_width to {MOBILENET_STEM}"
            )
        height, width = self.input_size
        if height < STRIDE or width < STRIDE or height % STRIDE or width % STRIDE:
            raise VisoloError(
                f"input size {height}x{width} cannot be used: "
                f"height and width must be positive multiples of {STRIDE}"
            )
        if self.groups < 1 or self.width < 2 or self.width % (2 * self.groups):
            raise VisoloError(
                f"width {self.width} does not fit {self.groups} groups: "
                "half the width must be a multiple of the groups"
            )
        if self.mask_channels < 1 or self.mask_channels % self.groups:
            raise VisoloError(
                f"mask width {self.mask_channels} does not fit {self.groups} groups: "
                "it must be a multiple of the groups"
            )
        if min(self.grid) < 1:
            raise VisoloError(
                f"grid {self.grid[0]}x{self.grid[1]} needs at least one cell per side"
            )
        if self.classes < 1:
            raise VisoloError(f"a model needs at least one class, not {self.classes}")

    @property
    def key_width(self) -> int:
        """Channels of queries and keys, D/2."""
        return self.width // 2

    @property
    def backbone_channels(self) -> tuple[int, int, int]:
        """Channels of res2, res3 and res4, the backbone's outputs."""
        if self.backbone in MOBILENETS:
            return MOBILENET_CHANNELS
        expansion = _EXPANSIONS[self.backbone]
        first, second, third = (expansion * self.backbone_width * factor for factor in (1, 2, 4))
        return first, second, third

    @property
    def mask_channels(self) -> int:
        """Channels inside the mask branch."""
        return self.width if self.mask_width is None else self.mask_width

    @property
    def cells(self) -> int:
        """Number of cells S of the grid."""
        return self.grid[0] * self.grid[1]

    @property
    def mask_size(self) -> tuple[int, int]:
        """Height and width of the mask features, a quarter of the input."""
        return self.input_size[0] // MASK_STRIDE, self.input_size[1] // MASK_STRIDE

    def with_classes(self, classes: int) -> ModelConfig:
        """The same network for another number of categories."""
        return replace(self, classes=classes)


@dataclass(frozen=True)
class InferenceConfig:
    """Settings of inference: the paper's thresholds, and limits that the paper does not have.

    Raises:
        VisoloError: if a value is out of its range.
    """

    memory_slots: int = 9
    """Stored frames T that a frame can read. 9 slots match the paper exactly for clips of up to 36
    frames; with 0, every frame reads only itself."""
    keep_every: int = 5
    """Every ``keep_every``-th frame stays in memory after it stops being one of the last two."""
    score_threshold: float = 0.1
    """A cell is decoded if its class score times its grid weight reaches this."""
    nms_sigma: float = 2.0
    """Width of the Gaussian of matrix NMS."""
    update_threshold: float = 0.05
    """An instance stays if its score after matrix NMS reaches this."""
    pre_nms_limit: int = 500
    """Most masks that enter matrix NMS."""
    max_instances: int = 100
    """Most instances per frame after matrix NMS."""
    overlap_threshold: float = 0.5
    """A mask is dropped if a single better mask covers more than this share of it."""
    match_threshold: float = 0.1
    """An instance continues a track if the match value reaches this."""
    return_threshold: float = 0.0
    """A lost track returns only if the match value reaches this as well. 0, as in the paper, asks
    no more of it than of a track of the last frame."""
    track_score_power: float = 0.0
    """Of several tracks that an instance may continue, it continues the one with the greatest match
    value times score to this power. 0, as in the paper, leaves the score out."""
    lost_limit: int = 256
    """Most lost tracks that are kept; the one lost longest is dropped first."""

    def __post_init__(self) -> None:
        for name in ("memory_slots", "lost_limit"):
            if getattr(self, name) < 0:
                raise VisoloError(f"{name} must be 0 or more, not {getattr(self, name)}")
        for name in ("keep_every", "pre_nms_limit", "max_instances"):
            if getattr(self, name) < 1:
                raise VisoloError(f"{name} must be 1 or more, not {getattr(self, name)}")
        for name in (
            "score_threshold", "update_threshold", "overlap_threshold", "match_threshold",
            "return_threshold",
        ):  # fmt: skip
            if not 0 <= getattr(self, name) <= 1:
                raise VisoloError(f"{name} must be in 0 to 1, not {getattr(self, name)}")
        if not 0 <= self.track_score_power <= 10:
            raise VisoloError(f"track_score_power must be in 0 to 10, not {self.track_score_power}")
        if not (math.isfinite(self.nms_sigma) and self.nms_sigma > 0):
            raise VisoloError(f"nms_sigma must be a positive number, not {self.nms_sigma}")


PAPER = ModelConfig()
"""The network of the paper: ResNet-50, 256 channels, 352x624."""

LITE = ModelConfig(
    backbone="resnet18",
    backbone_width=32,
    backbone_norm="batch",
    width=64,
    mask_width=32,
    groups=8,
    input_size=(192, 336),
)
"""A small network for CPUs: half-width ResNet-18, 64 channels, 192x336, trained from scratch."""

PRESETS = {"r50": PAPER, "lite": LITE}
