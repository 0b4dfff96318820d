"""Winograd's convolution equals the direct one, and stands where only masks depend on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import Array, first_frame
from visolo_runtime.engines.openvino.backend import OpenVinoBackend
from visolo_runtime.engines.openvino.winograd import (
    SPAN,
    TILE,
    input_transform,
    output_transform,
    tiles,
    transform_kernels,
)
from visolo_runtime.session.loading import load
from visolo_runtime.video.sample_clip import sample_frames

# Sums of 576 products of numbers around one: float32 is within 2e-6 of them, the basis loses five
# times as much.
TOLERANCE = 1e-4


def direct(image: Array, weight: Array) -> Array:
    """Convolution in float64: image [H, W, C], weight [K, C, 3, 3] to [H, W, K]."""
    padded = np.pad(image.astype(np.float64), ((1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(0, 1))
    convolved: Array = np.einsum(
        "yxcij,kcij->yxk", windows, weight.astype(np.float64), optimize=True
    )
    return convolved


def by_tiles(image: Array, weight: Array, parts: int) -> Array:
    """The same as the graph does it."""
    height, width, channels = image.shape
    rows = np.concatenate([image.reshape(-1, channels), np.zeros((1, channels), np.float32)])
    kernels = transform_kernels(weight)
    outputs = []
    for part in tiles(height, width, parts):
        moved = input_transform() @ rows[part.gather].reshape(SPAN * SPAN, -1)
        product = moved.reshape(SPAN * SPAN, part.number, channels) @ kernels
        back = output_transform() @ product.reshape(SPAN * SPAN, -1)
        outputs.append(back.reshape(TILE * TILE * part.number, -1)[part.scatter])
    return np.concatenate(outputs).reshape(height, width, -1)


@settings(deadline=None, max_examples=40)
@given(
    height=st.integers(1, 23), width=st.integers(1, 23), parts=st.integers(1, 7),
    seed=st.integers(0, 999),
)  # fmt: skip
def test_equals_the_direct_convolution(height: int, width: int, parts: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    image = random.standard_normal((height, width, 5)).astype(np.float32)
    weight = random.standard_normal((3, 5, 3, 3)).astype(np.float32)
    np.testing.assert_allclose(
        by_tiles(image, weight, parts), direct(image, weight), atol=TOLERANCE
    )


def test_rounding_is_within_eight_times_that_of_a_direct_convolution() -> None:
    """As the module says, five times; the usual points 0, 1, -1, 2, -2 would fail here."""
    random = np.random.default_rng(0)
    image = np.maximum(random.standard_normal((16, 16, 256)), 0).astype(np.float32)
    weight = (random.standard_normal((64, 256, 3, 3)) / 48).astype(np.float32)
    exact = direct(image, weight)
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(0, 1))
    single = windows.reshape(256, -1) @ weight.reshape(64, -1).T

    def error(result: Array) -> float:
        return float(np.sqrt(np.mean((result.reshape(exact.shape) - exact) ** 2)))

    assert error(by_tiles(image, weight, 1)) < 8 * error(single)


class Graph:
    """Two outputs of one image [B, 64, 10, 13]: masks go through convolutions of every kind."""

    def __init__(self, batch: int) -> None:
        pytest.importorskip("openvino", reason="install visolo[openvino]")
        import openvino.opset13 as operators

        self.random = np.random.default_rng(3)
        image = operators.parameter([batch, 64, 10, 13], np.float32, name="image")
        shared = operators.relu(self.convolution(image, 64, 64))
        wide = self.convolution(shared, 64, 96)
        residual = self.convolution(operators.relu(wide), 96, 96)
        joined = operators.add(wide, residual)
        upsampled = operators.interpolate(
            joined, np.array([20, 26]), "linear_onnx", "sizes",
            coordinate_transformation_mode="half_pixel", axes=np.array([2, 3]),
        )  # fmt: skip
        smooth = self.convolution(operators.relu(upsampled), 96, 64)
        narrow = self.convolution(smooth, 64, 8)
        coarse = self.convolution(narrow, 8, 64, stride=2)
        masks = operators.sigmoid(coarse)
        scores = operators.sigmoid(self.convolution(shared, 64, 64))
        for output, name in ((masks, "mask_features"), (scores, "scores")):
            output.output(0).set_names({name})
        self.outputs, self.inputs = [masks, scores], [image]

    def convolution(self, data: Any, channels: int, channels_out: int, stride: int = 1) -> Any:
        """3x3, with a bias."""
        import openvino.opset13 as operators

        weight = self.random.standard_normal((channels_out, channels, 3, 3)) / (3 * channels**0.5)
        bias = self.random.standard_normal((1, channels_out, 1, 1))
        convolution = operators.convolution(
            data, operators.constant(weight.astype(np.float32)),
            [stride, stride], [1, 1], [1, 1], [1, 1],
        )  # fmt: skip
        return operators.add(convolution, operators.constant(bias.astype(np.float32)))

    def run(self, images: Array, rewritten: bool) -> tuple[dict[str, Array], tuple[str, ...]]:
        """Its outputs, and the names of the replaced convolutions."""
        import openvino

        from visolo_runtime.engines.openvino.backend import shared_core
        from visolo_runtime.engines.openvino.winograd_rewriting import rewrite_convolutions

        model = openvino.Model(self.outputs, self.inputs, "graph")
        replaced = rewrite_convolutions(model, "mask_features") if rewritten else ()
        options = {"INFERENCE_PRECISION_HINT": "f32"}
        outputs = shared_core().compile_model(model, "CPU", options)(images)
        return {name: outputs[name].copy() for name in ("mask_features", "scores")}, replaced


@pytest.mark.parametrize(("batch", "run"), [(1, 1), (-1, 1), (-1, 3)])
def test_rewrites_what_only_masks_depend_on(batch: int, run: int) -> None:
    """Three convolutions fit. The first is shared with the scores, the last two are too narrow, and
    one of those has a stride."""
    images = np.random.default_rng(1).standard_normal((run, 64, 10, 13)).astype(np.float32)
    plain, none = Graph(batch).run(images, rewritten=False)
    quick, replaced = Graph(batch).run(images, rewritten=True)
    assert (len(none), len(replaced)) == (0, 3)
    np.testing.assert_array_equal(plain["scores"], quick["scores"])
    difference = np.abs(plain["mask_features"] - quick["mask_features"]).max()
    assert 0 < difference < TOLERANCE


def test_other_processors_compute_directly(
    paper_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino", reason="install visolo[openvino]")
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert "Winograd" not in load(paper_bundle, "openvino").engines.description


def test_the_papers_network_keeps_its_scores(paper_bundle: Path) -> None:
    """Class scores, kernels, queries and keys are the same bits; 14 convolutions are replaced."""
    pytest.importorskip("openvino", reason="install visolo[openvino]")
    (frame,) = sample_frames(1, 352, 624)
    read = {}
    for backend, words in (("openvino", "with Winograd"), ("openvino-direct", "")):
        model = load(paper_bundle, backend)
        assert ("Winograd" in model.engines.description) == bool(words)
        buffers = model.engines.buffers()
        buffers.submit(range(1), [first_frame(buffers, frame)])
        buffers.frame()
        buffers.mask([0])
        assert isinstance(model.engines.backend, OpenVinoBackend)
        assert len(model.engines.backend.rewritten) == (14 if words else 0)
        names = ("scores", "kernels", "query", "key", "features", "mask_features")
        read[backend] = {name: buffers.read(name).copy() for name in names}
    masks = [tensors.pop("mask_features") for tensors in read.values()]
    quick, plain = read.values()
    for name, tensor in plain.items():
        np.testing.assert_array_equal(quick[name], tensor, err_msg=name)
    assert np.abs(masks[0] - masks[1]).max() < TOLERANCE
