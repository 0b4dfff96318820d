"""Runs a bundle on video. Never imports torch.

::

    from visolo_runtime import load

    session = load("model.visolo").session()
    for frame in video:                      # uint8 [H, W, 3] RGB
        instances = session.step(frame)      # of this frame, without delay
    tracks = session.finish()                # the paper's video-level result
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from visolo_core.errors import VisoloError
    from visolo_core.results import Instances, Track
    from visolo_runtime.model import Model, load, shipped_model
    from visolo_runtime.session import Session

_HOMES = {
    "Instances": "visolo_core.results",
    "Model": "visolo_runtime.model",
    "Session": "visolo_runtime.session",
    "Track": "visolo_core.results",
    "VisoloError": "visolo_core.errors",
    "load": "visolo_runtime.model",
    "shipped_model": "visolo_runtime.model",
}

__all__ = ["Instances", "Model", "Session", "Track", "VisoloError", "load", "shipped_model"]


def __getattr__(name: str) -> object:
    # The command line lives in this package and must answer before NumPy is even loaded.
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)
