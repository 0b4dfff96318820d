"""OpenVINO graphs whose images are resized by matrix products.

OpenVINO interpolates the masks of the decode graph with their number as the innermost axis, and
turns the result back: for more than 16 masks that takes several times what the rest of the graph
takes. A product with a matrix along each axis weighs the same pixels with the same weights, masks
stay as they are, and libraries are at their best there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from visolo_core.masks import Taps
from visolo_runtime.engines.openvino.nodes import resizes_images, sides


def rewrite_upsampling(model: Any) -> int:
    """Replace bilinear interpolation of images.

    Args:
        model: an ``openvino.Model`` in float32; it is changed.

    Returns:
        how often.
    """
    import openvino.opset13 as operators

    replaced = 0
    for node in model.get_ordered_ops():
        if not resizes_images(node):
            continue
        image = node.input_value(0)
        (height, width), (made_height, made_width) = sides(image)[2:], sides(node.output(0))[2:]
        across = operators.constant(np.ascontiguousarray(weights(width, made_width).T))
        down = operators.constant(weights(height, made_height))
        wide = operators.matmul(image, across, False, False)
        upsampled = operators.matmul(down, wide, False, False)
        for reader in node.output(0).get_target_inputs():
            reader.replace_source_output(upsampled.output(0))
        replaced += 1
    model.validate_nodes_and_infer_types()
    return replaced


def weights(source: int, target: int) -> NDArray[np.float32]:
    """float32 [target, source]: how much of each source position goes into a target position, in
    bilinear interpolation between pixel centres."""
    taps = Taps(source, target)
    matrix = np.zeros((target, source), np.float32)
    places = np.arange(target)
    np.add.at(matrix, (places, taps.low), 1 - taps.share)
    np.add.at(matrix, (places, taps.high), taps.share)
    return matrix
