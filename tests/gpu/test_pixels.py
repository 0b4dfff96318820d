"""Frames resized on a real GPU, and masks handed out there. These have not been run on one yet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import Array
from skips import NO_CUDA
from visolo_core.colour import colour_matrix, nv12_to_rgb
from visolo_runtime.engines.tensorrt.library import Library
from visolo_runtime.session.loading import Model, load
from visolo_runtime.session.session import Session
from visolo_runtime.video.nv12 import Nv12Frame
from visolo_runtime.video.resizing import resize_frame
from visolo_runtime.video.sample_clip import sample_frames

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(600)]
SIZES = ((1080, 1920), (2160, 3840), (720, 1280), (101, 57))


@pytest.fixture(scope="module")
def model(bundle: Path, library: Library) -> Model:
    return load(bundle, library)


@pytest.fixture(scope="module")
def torch_on_gpu() -> Any:
    torch = pytest.importorskip("torch", reason=NO_CUDA)
    if not torch.cuda.is_available():
        pytest.skip(NO_CUDA)
    return torch


def noise(*shape: int) -> Array:
    return np.random.default_rng(shape[0]).integers(0, 256, shape, np.uint8)


def image_of(session: Session, frame: Any) -> Array:
    session.step(frame)
    image: Array = session._buffers.read("image")[0]
    return image


@pytest.mark.parametrize("size", SIZES)
def test_images_are_pillows(model: Model, size: tuple[int, int]) -> None:
    """To the last bit, before the work is recorded and after."""
    session, frame = model.session(record=False), noise(*size, 3)
    expected = resize_frame(frame, model.config.input_size)
    for _ in range(3):
        assert np.array_equal(image_of(session, frame), expected)


def test_nv12(model: Model) -> None:
    luma, chroma = noise(1080, 1920), noise(540, 960, 2)
    colours = nv12_to_rgb(luma, chroma, colour_matrix("bt709"))
    image = image_of(model.session(record=False), Nv12Frame(luma, chroma))
    assert np.array_equal(image, resize_frame(colours, model.config.input_size))


def test_frames_of_pytorch(model: Model, torch_on_gpu: Any) -> None:
    """Its own stream makes the frame, after much other work, and makes another when the step has
    returned."""
    torch, session = torch_on_gpu, model.session(record=False)
    frame, other = noise(1080, 1920, 3), noise(1081, 1920, 3)[:1080]
    expected = resize_frame(frame, model.config.input_size)
    ready, nothing = (torch.from_numpy(each).cuda() for each in (frame, other))
    tensor, busy = nothing.clone(), torch.ones(4096, 4096, device="cuda")
    with torch.cuda.stream(torch.cuda.Stream()):
        for _ in range(5):
            for _ in range(20):
                busy = busy @ busy * 1e-4
            tensor.copy_(ready)
            assert np.array_equal(image_of(session, tensor), expected)
            tensor.copy_(nothing)


def test_masks_in_pytorch(model: Model, torch_on_gpu: Any) -> None:
    session = model.session(record=False, device_masks=True)
    kept: list[tuple[Any, Array]] = []
    for frame in sample_frames(20):
        instances = session.step(frame)
        assert instances.device_masks is not None
        tensors = map(torch_on_gpu.from_dlpack, instances.device_masks)
        kept += zip(tensors, instances.input_masks, strict=True)
    assert len(kept) > 20
    del session, instances
    for tensor, mask in kept:
        assert tensor.is_cuda
        assert np.array_equal(tensor.cpu().numpy(), mask)
