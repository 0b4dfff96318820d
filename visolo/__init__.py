"""Tracks the objects of a video frame by frame: each gets a mask, a class and a lasting number.

::

    import visolo

    for frame, instances in visolo.track("model.visolo", "video.mp4"):
        for each in instances:
            print(instances.frame, each.track_id, each.label, each.score, each.box)

Importing this package loads nothing heavy: each name is loaded when it is first used, and PyTorch
only when a model needs it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from visolo_core import __version__

if TYPE_CHECKING:
    from visolo_core.errors import VisoloError
    from visolo_core.instances import Instance, Instances
    from visolo_core.results import Track
    from visolo_runtime.session.loading import Model, load
    from visolo_runtime.session.session import Session
    from visolo_runtime.session.streams import Streams
    from visolo_runtime.sinks.drawing import draw_instances
    from visolo_runtime.track import track
    from visolo_runtime.video.nv12 import Nv12Frame

_HOMES = {
    "Instance": "visolo_core.instances",
    "Instances": "visolo_core.instances",
    "Model": "visolo_runtime.session.loading",
    "Nv12Frame": "visolo_runtime.video.nv12",
    "Session": "visolo_runtime.session.session",
    "Streams": "visolo_runtime.session.streams",
    "Track": "visolo_core.results",
    "VisoloError": "visolo_core.errors",
    "draw_instances": "visolo_runtime.sinks.drawing",
    "load": "visolo_runtime.session.loading",
    "track": "visolo_runtime.track",
}

__all__ = [
    "Instance", "Instances", "Model", "Nv12Frame", "Session", "Streams", "Track", "VisoloError",
    "__version__", "draw_instances", "load", "track",
]  # fmt: skip


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
