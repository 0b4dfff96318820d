"""Cameras and streams."""

from __future__ import annotations

import sys
from pathlib import Path

from visolo_core.errors import VisoloError
from visolo_runtime.sources.clip import Clip
from visolo_runtime.sources.decoding import decode


def clip_of_stream(address: str) -> Clip:
    """A stream by its address."""
    options = {"rtsp_transport": "tcp"} if address.lower().startswith("rtsp") else {}
    return Clip(1, address, lambda: decode(address, options=options), live=True)


def clip_of_camera(index: int) -> Clip:
    """A camera by its number.

    Raises:
        VisoloError: if there is none of this number.
    """
    if sys.platform == "darwin":
        device, driver = str(index), "avfoundation"
    elif sys.platform == "win32":
        device, driver = f"video={index}", "dshow"
    else:
        device, driver = f"/dev/video{index}", "v4l2"
        if not Path(device).exists():
            raise VisoloError(f"there is no camera {index} ({device})")
    return Clip(1, f"camera {index}", lambda: decode(device, driver), live=True)


def clip_of_camera_at(device: Path) -> Clip:
    """A camera by its device, such as ``/dev/video0`` or a link to it."""
    driver = "v4l2" if sys.platform == "linux" else None
    return Clip(
        1, f"camera {device}", lambda: decode(str(device), driver), live=True, files=(device,)
    )
