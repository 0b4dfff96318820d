"""The graphs that resize on a device give Pillow's images, to the last bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import Array
from visolo_core.colour import COLOUR_BITS, ColourStandard, colour_matrix, nv12_to_rgb
from visolo_core.nn.pixels import pixel_modules
from visolo_core.pixels import (
    BGR,
    PIXEL_GRAPHS,
    RGB,
    Nv12Layout,
    PackedLayout,
    PixelGraph,
    pixel_contract,
    pixel_lengths,
    resize_inputs,
)
from visolo_export.onnx_export import write_onnx
from visolo_runtime.engines.openvino.backend import shared_core
from visolo_runtime.video.resizing import resize_frame

PAPER, SMALL = (352, 624), (24, 40)
SIDE = st.integers(1, 200)
HALF_SIDE = st.integers(1, 100)


def noise(height: int, width: int, channels: int = 3) -> Array:
    random = np.random.default_rng(height * 10_000 + width)
    return random.integers(0, 256, (height, width, channels), np.uint8)


def planes(height: int, width: int) -> tuple[Array, Array]:
    return noise(height, width, 1)[..., 0], noise(height // 2, width // 2, 2)


def packed_feeds(frame: Array, size: tuple[int, int], layout: PackedLayout = RGB) -> dict[str, Any]:
    height, width = frame.shape[:2]
    return {"frame": frame.reshape(height, -1)} | resize_inputs((height, width), size, layout)


def nv12_feeds(
    luma: Array, chroma: Array, size: tuple[int, int], standard: ColourStandard, full_range: bool
) -> dict[str, Any]:
    height, width = luma.shape
    return {
        "luma": luma.reshape(height // 2, 2, width),
        "chroma": chroma.reshape(height // 2, width),
    } | resize_inputs((height, width), size, Nv12Layout(standard, full_range))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[PixelGraph, Any], Path]:
    """Graphs as ONNX, for two sizes of the network's input."""
    folder = tmp_path_factory.mktemp("pixels")
    written = {}
    for size in (PAPER, SMALL):
        for graph, module in pixel_modules().items():
            file = folder / f"{graph}-{size[0]}.onnx"
            write_onnx(module, pixel_contract(size)[graph], file)
            written[graph, size] = file
    return written


def in_onnxruntime(file: Path) -> Callable[[dict[str, Any]], Array]:
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return lambda feeds: np.asarray(session.run(None, feeds)[0])


def in_openvino(file: Path) -> Callable[[dict[str, Any]], Array]:
    """One thread: with two, OpenVINO 2026.4's Gather along the last axis of dynamic shapes reads
    wrong places of large frames, or crashes. Nothing but this test runs these graphs in it."""
    pytest.importorskip("openvino", reason="install visolo[openvino]")
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = shared_core().compile_model(str(file), "CPU", settings)
    return lambda feeds: np.asarray(compiled(feeds)[0])


def in_pytorch(file: Path) -> Callable[[dict[str, Any]], Array]:
    module = pixel_modules()["resize_nv12" if "nv12" in file.name else "resize"]
    return lambda feeds: module(
        *(torch.from_numpy(feeds[name].copy()) for name in _input_names(file))
    ).numpy()


def _input_names(file: Path) -> list[str]:
    graph: PixelGraph = "resize_nv12" if "nv12" in file.name else "resize"
    return pixel_contract(SMALL)[graph].names("inputs")


ENGINES = (in_onnxruntime, in_openvino, in_pytorch)


@pytest.fixture(scope="module", params=ENGINES)
def engines(request: pytest.FixtureRequest, files: Any) -> dict[tuple[PixelGraph, Any], Any]:
    """Each graph in a library."""
    return {key: request.param(file) for key, file in files.items()}


@settings(deadline=None, max_examples=60)
@given(height=SIDE, width=SIDE)
def test_frames_of_any_size(engines: Any, height: int, width: int) -> None:
    frame = noise(height, width)
    image = engines["resize", SMALL](packed_feeds(frame, SMALL))
    assert np.array_equal(image, resize_frame(frame, SMALL))


@pytest.mark.parametrize("before", [(1080, 1920), (2160, 3840), (720, 1280), (1920, 1080)])
def test_usual_frames(engines: Any, before: tuple[int, int]) -> None:
    frame = noise(*before)
    image = engines["resize", PAPER](packed_feeds(frame, PAPER))
    assert np.array_equal(image, resize_frame(frame, PAPER))


def test_smooth_frames_and_extremes(engines: Any) -> None:
    """Slopes, where many sums lie near a half, and the greatest and least sums."""
    slope = np.linspace(0, 255, 1280)[None, :, None] * np.ones((360, 1, 3))
    board = np.indices((360, 1280)).sum(axis=0)[..., None] % 2 * np.full(3, 255)
    for frame in (slope, board, slope * 0, slope * 0 + 255):
        picture = np.rint(frame).astype(np.uint8)
        image = engines["resize", PAPER](packed_feeds(picture, PAPER))
        assert np.array_equal(image, resize_frame(picture, PAPER))


@settings(deadline=None, max_examples=30)
@given(height=HALF_SIDE, width=HALF_SIDE, bt709=st.booleans(), full_range=st.booleans())
def test_nv12_of_any_size(
    engines: Any, height: int, width: int, bt709: bool, full_range: bool
) -> None:
    luma, chroma = planes(2 * height, 2 * width)
    standard: ColourStandard = "bt709" if bt709 else "bt601"
    image = engines["resize_nv12", SMALL](nv12_feeds(luma, chroma, SMALL, standard, full_range))
    colours = nv12_to_rgb(luma, chroma, colour_matrix(standard, full_range))
    assert np.array_equal(image, resize_frame(colours, SMALL))


def test_a_usual_nv12_frame(engines: Any) -> None:
    luma, chroma = planes(1080, 1920)
    image = engines["resize_nv12", PAPER](nv12_feeds(luma, chroma, PAPER, "bt709", False))
    colours = nv12_to_rgb(luma, chroma, colour_matrix("bt709"))
    assert np.array_equal(image, resize_frame(colours, PAPER))


def test_bgr_padding_and_four_bytes(engines: Any) -> None:
    """One graph for every layout: what lies between the pixels does not matter."""
    frame = noise(50, 90)
    expected = resize_frame(frame, SMALL)
    bgr = np.ascontiguousarray(frame[..., ::-1])
    bgra = np.dstack([bgr, noise(50, 90, 1)])
    padded = np.hstack([frame.reshape(50, 270), noise(50, 42, 1)[..., 0]])
    run = engines["resize", SMALL]
    assert np.array_equal(run(packed_feeds(bgr, SMALL, BGR)), expected)
    assert np.array_equal(run(packed_feeds(bgra, SMALL, PackedLayout(4, (2, 1, 0)))), expected)
    assert np.array_equal(run({"frame": padded} | resize_inputs((50, 90), SMALL)), expected)


def test_padded_planes(engines: Any) -> None:
    luma, chroma = planes(50, 90)
    feeds = nv12_feeds(luma, chroma, SMALL, "bt601", True)
    wide = feeds | {
        "luma": np.concatenate([feeds["luma"], noise(25, 2, 38)], axis=2),
        "chroma": np.hstack([feeds["chroma"], noise(25, 70, 1)[..., 0]]),
    }
    run = engines["resize_nv12", SMALL]
    assert np.array_equal(run(wide), run(feeds))


@pytest.mark.parametrize("standard", ["bt601", "bt709"])
@pytest.mark.parametrize("full_range", [False, True])
def test_colours_are_exact_in_float32(standard: ColourStandard, full_range: bool) -> None:
    """However they are added: no sum of some of the terms passes 2**24."""
    terms = np.abs(colour_matrix(standard, full_range).astype(np.int64)) * [255, 255, 255, 1]
    assert terms.sum(axis=1).max() + (1 << COLOUR_BITS - 1) < 2**24


@pytest.mark.parametrize("graph", PIXEL_GRAPHS)
def test_three_kernels_in_tensorrt(graph: PixelGraph, files: Any) -> None:
    """The cast, the choice of taps and the sums of a pass are one kernel, so that nothing as large
    as the frame times its taps is written; no layer is a product of matrices."""
    pytest.importorskip("tensorrt_rtx", reason="install visolo[rtx]")
    from visolo_export.tensorrt_build import TensorRt

    built = TensorRt("tensorrt-rtx").build(
        files[graph, PAPER], pixel_contract(PAPER)[graph], pixel_lengths(PAPER), ("sm86", "sm89")
    )
    kernels = [layer for layer in built.layers if layer.kind != "shape_call"]
    assert [layer.kind for layer in kernels] == ["kgen"] * 3
    assert "UInt8" in kernels[0].precisions
    assert "UInt8" in kernels[-1].precisions
    assert not any({"Half", "BFloat16"} & set(layer.precisions) for layer in kernels)
    assert (built.profile["pitch"][0], built.profile["pitch"][2]) == (1, 4 * 3840)
