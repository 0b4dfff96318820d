"""What ``make gpu-check`` asks of a real driver, over the stand-in."""

from __future__ import annotations

import pytest

from gpu.test_device import *  # noqa: F403
from visolo_runtime.engines.tensorrt.device import CudaDevice

pytestmark = [pytest.mark.standin]


@pytest.fixture
def gpu(device: CudaDevice) -> CudaDevice:
    """The stand-in."""
    return device
