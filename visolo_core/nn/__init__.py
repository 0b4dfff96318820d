"""The network of VISOLO in plain PyTorch. Importing this package imports torch."""

from visolo_core.nn.visolo import ClipOutput, FrameFeatures, FrameOutput, MemoryState, Visolo

__all__ = ["ClipOutput", "FrameFeatures", "FrameOutput", "MemoryState", "Visolo"]
