"""Runs a bundle on video. Never imports torch.

>>> from visolo_runtime import load                                       # doctest: +SKIP
>>> session = load("model.visolo").session()                              # doctest: +SKIP
>>> for frame in video:                      # uint8 [H, W, 3] RGB        # doctest: +SKIP
...     instances = session.step(frame)      # of this frame, no delay
>>> tracks = session.finish()                # the paper's video-level result  # doctest: +SKIP
"""

from visolo_core.errors import VisoloError
from visolo_core.results import Instances, Track
from visolo_runtime.model import Model, load
from visolo_runtime.session import Session

__all__ = ["Instances", "Model", "Session", "Track", "VisoloError", "load"]
