"""What OpenVINO's graphs are rewritten to computes the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from visolo_runtime.engines.openvino.upsampling import weights

LENGTH = st.integers(1, 40)


@settings(deadline=None, max_examples=50)
@given(source=LENGTH, target=LENGTH)
def test_weights_are_pytorchs_bilinear(source: int, target: int) -> None:
    line = np.random.default_rng(source).standard_normal(source).astype(np.float32)
    image = torch.from_numpy(line)[None, None, :, None]
    expected = F.interpolate(image, (target, 1), mode="bilinear", align_corners=False)
    np.testing.assert_allclose(weights(source, target) @ line, expected.flatten(), atol=1e-5)


def test_images_are_resized_by_products() -> None:
    """Bilinear interpolation is replaced; what takes the nearest pixel stays."""
    openvino = pytest.importorskip("openvino", reason="install visolo[openvino]")
    import openvino.opset13 as operators

    from visolo_runtime.engines.openvino.backend import shared_core
    from visolo_runtime.engines.openvino.upsampling import rewrite_upsampling

    def model() -> object:
        logits = operators.parameter([1, -1, 6, 9], np.float32, name="logits")
        smooth, nearest = (
            operators.interpolate(
                logits, np.array([24, 30]), mode, "sizes",
                coordinate_transformation_mode="half_pixel", axes=np.array([2, 3]),
            )
            for mode in ("linear_onnx", "nearest")
        )  # fmt: skip
        return openvino.Model([operators.relu(smooth), nearest], [logits], "graph")

    plain, quick = model(), model()
    assert rewrite_upsampling(quick) == 1
    for masks in (1, 5):
        logits = np.random.default_rng(masks).standard_normal((1, masks, 6, 9)).astype(np.float32)
        options = {"INFERENCE_PRECISION_HINT": "f32"}
        expected, rewritten = (
            shared_core().compile_model(each, "CPU", options)(logits) for each in (plain, quick)
        )
        np.testing.assert_allclose(rewritten[0], expected[0], atol=1e-5)
        np.testing.assert_array_equal(rewritten[1], expected[1])
        assert rewritten[0].shape == (1, masks, 24, 30)
