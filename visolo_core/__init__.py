"""The core of VISOLO: configuration, decoding, association, memory policy and result types.

This package imports none of the others. Everything at its top level works without PyTorch; the
network itself is in :mod:`visolo_core.nn` and needs ``torch`` and ``torchvision``.
"""

from visolo_core.config import LITE, PAPER, InferenceConfig, ModelConfig
from visolo_core.errors import VisoloError

__version__ = "0.1.0"

__all__ = ["LITE", "PAPER", "InferenceConfig", "ModelConfig", "VisoloError", "__version__"]
