"""Reading the nodes of OpenVINO's graphs, for rewriting them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Key = tuple[str, int]
"""An output of a node: the name of the node and the index of the output."""


def key(value: Any) -> Key:
    """The key of an output."""
    return value.get_node().get_friendly_name(), value.get_index()


def sides(value: Any) -> list[int]:
    """Shape of an output, with 0 for dynamic lengths."""
    return [0 if side.is_dynamic else side.get_length() for side in value.get_partial_shape()]


def ints(numbers: list[int]) -> NDArray[np.int64]:
    """Numbers as the array that operators expect for shapes, axes and orders."""
    return np.array(numbers, np.int64)


def inputs_of(node: Any) -> list[Any]:
    """The outputs that a node reads."""
    return [node.input_value(index) for index in range(node.get_input_size())]


def resizes_images(node: Any) -> bool:
    """Whether a node resizes images bilinearly to a known height and width."""
    if node.get_type_name() != "Interpolate":
        return False
    before, after = sides(node.input_value(0)), sides(node.output(0))
    settings = node.get_attributes()
    return (
        len(before) == len(after) == 4
        and before[:2] == after[:2]
        and all(before[2:])
        and all(after[2:])
        and not any([*settings["pads_begin"], *settings["pads_end"]])
        and settings["mode"] == "linear_onnx"
        and settings["coordinate_transformation_mode"] == "half_pixel"
    )
