"""What VISOLO is: its numbers, its rules and its names.

This room imports nothing of the other rooms. Everything at its top level works without
PyTorch; the network itself is in :mod:`visolo_core.nn` and needs ``torch`` and ``torchvision``.
"""

from visolo_core.config import LITE, PAPER, InferenceConfig, ModelConfig
from visolo_core.errors import VisoloError

__version__ = "0.1.0"

__all__ = ["LITE", "PAPER", "InferenceConfig", "ModelConfig", "VisoloError", "__version__"]
