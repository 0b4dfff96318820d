"""The floor that graphs are compared with: counted correctly, and never too high."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu_prediction import CARDS, predicted_ms
from benchmarks.layer_counts import Layer, count_bundle, count_graph, total
from visolo_core.nn.checkpoint import load_checkpoint
from visolo_core.nn.graphs import graph_modules
from visolo_export.graph_export import example_inputs
from visolo_runtime.bundle import Bundle
from visolo_runtime.models.shipped import shipped_model, shipped_weights


def convolution(group: int) -> onnx.ModelProto:
    """8 channels to 6, 3x3, padded by 1, on 10x12."""
    weight = numpy_helper.from_array(np.zeros((6, 8 // group, 3, 3), np.float32), "w")
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1], group=group)
    shapes = {"x": (1, 8, 10, 12), "y": (1, 6, 10, 12)}
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()]
    graph = helper.make_graph([node], "g", values[:1], values[1:], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


@pytest.mark.parametrize("group", [1, 2])
def test_a_convolution_by_hand(group: int) -> None:
    (layer,) = count_graph(convolution(group), "frame", {})
    pixels, inputs = 10 * 12, 8 // group
    assert layer.macs == pixels * 6 * inputs * 9
    # At the image's edge the window covers fewer rows and columns.
    seen = (3 * 10 - 2) * (3 * 12 - 2)
    assert layer.macs_inside == seen * 6 * inputs
    assert layer.macs_direct == layer.macs_inside
    assert (layer.weights, layer.inputs, layer.outputs) == (6 * inputs * 9, 8 * pixels, 6 * pixels)


def test_winograds_convolution_by_hand() -> None:
    """Tiles of 4x4 outputs, the last ones cropped, each with 36 products per pair of channels."""
    proto = convolution(1)
    proto.graph.node[0].name = "winograd"
    (layer,) = count_graph(proto, "frame", {}, {"winograd"})
    assert layer.macs_inside == 3 * 3 * 36 * 8 * 6
    assert layer.macs == 9 * layer.outputs * 8 > layer.macs_direct > layer.macs_inside


@pytest.fixture(scope="module")
def layers() -> list[Layer]:
    return count_bundle(Bundle(shipped_model()), masks=8)


def test_the_frame_graph_as_pytorch_counts_it(layers: list[Layer]) -> None:
    network = load_checkpoint(shipped_weights()).build()
    manifest = Bundle(shipped_model()).manifest
    counter = FlopCounterMode(display=False)
    with counter, torch.inference_mode():
        graph_modules(network)["frame"](*example_inputs(manifest.contract["frame"]))
    ours = total([layer for layer in layers if layer.graph == "frame"], "macs")
    assert ours == pytest.approx(counter.get_total_flops() / 2, rel=0.01)


def test_compulsory_bytes_fall_with_the_cache(layers: list[Layer]) -> None:
    caches = (0.0, 1e5, 1e6, 1e9)
    traffic = [sum(layer.compulsory_bytes(cache) for layer in layers) for cache in caches]
    assert traffic == sorted(traffic, reverse=True)
    assert traffic[0] > 0 == traffic[-1]


def test_a_faster_card_is_predicted_to_be_faster(layers: list[Layer]) -> None:
    slow, fast = CARDS[0], CARDS[-1]
    assert predicted_ms(layers, slow) > predicted_ms(layers, fast) > 0
    assert predicted_ms(layers, replace(slow, tflops=1e6, gbs=1e9)) < 0.01
