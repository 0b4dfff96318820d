"""Rewriting OpenVINO graphs to resize images by matrix products.

OpenVINO transposes the masks of the decode graph to interpolate them with the number of masks as
the innermost axis, and transposes the result back. For more than 16 masks that takes several times
as long as the rest of the graph. A matrix product along each axis sums the same pixels with the
same weights, needs no transposing, and is what libraries do fastest.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from visolo_core.masks import Taps
from visolo_runtime.engines.openvino.nodes import resizes_images, sides


def rewrite_upsampling(model: Any) -> int:
    """Replace every bilinear interpolation of images.

    Args:
        model: an ``openvino.Model`` in float32, changed in place.

    Returns:
        how many were replaced.
    """
    import openvino.opset13 as operators

    replaced = 0
    for node in model.get_ordered_ops():
        if not resizes_images(node):
            continue
        image = node.input_value(0)
        (height, width), (out_height, out_width) = sides(image)[2:], sides(node.output(0))[2:]
        across = operators.constant(np.ascontiguousarray(weights(width, out_width).T))
        down = operators.constant(weights(height, out_height))
        wide = operators.matmul(image, across, False, False)
        upsampled = operators.matmul(down, wide, False, False)
        for reader in node.output(0).get_target_inputs():
            reader.replace_source_output(upsampled.output(0))
        replaced += 1
    model.validate_nodes_and_infer_types()
    return replaced


def weights(source: int, target: int) -> NDArray[np.float32]:
    """float32 [target, source]: the weight of each source position in each target position, for
    bilinear interpolation between pixel centres."""
    taps = Taps(source, target)
    matrix = np.zeros((target, source), np.float32)
    places = np.arange(target)
    np.add.at(matrix, (places, taps.low), 1 - taps.share)
    np.add.at(matrix, (places, taps.high), taps.share)
    return matrix
