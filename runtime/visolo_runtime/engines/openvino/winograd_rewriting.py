"""OpenVINO graphs whose mask features are computed by Winograd's convolution.

OpenVINO and its peers convolve directly on CPUs. Most of the paper's arithmetic is 3x3 convolutions
of the mask branch, whose results go nowhere but into masks. Those alone are rewritten here: masks
change by float32's noise, and class scores, kernels, queries and keys not at all.

Between the rewritten convolutions features lie as rows, [B, H * W, C]: the channels of a position
side by side, so that tiles are gathered by copying whole rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from visolo_runtime.engines.openvino.nodes import Key, inputs_of, ints, key, resizes_images, sides
from visolo_runtime.engines.openvino.winograd import (
    SPAN,
    TAPS,
    TILE,
    Tiles,
    input_transform,
    output_transform,
    tiles,
    transform_kernels,
)

LEAST_CHANNELS = 64
"""Narrower convolutions are quicker as they are."""
_PART_BYTES = 4 << 20
"""What the tiles that go through together may become, so that it stays in the cache."""
_IMPORTED = "/WithoutBiases"
"""What the importer adds to the name of a convolution whose bias it takes apart."""


def rewrite_convolutions(model: Any, output: str) -> tuple[str, ...]:
    """Replace the convolutions that nothing but one output of a graph depends on.

    Args:
        model: an ``openvino.Model`` in float32; it is changed.
        output: name of the tensor.

    Returns:
        names of the convolutions that were replaced, those of the ONNX graph.
    """
    return _Rewriting(model, output).run()


class _Rewriting:
    def __init__(self, model: Any, output: str) -> None:
        import openvino.opset13 as operators
        from openvino.passes import ConstantFolding, Manager

        self._operators = operators
        folding = Manager()
        folding.register_pass(ConstantFolding())  # importers compute the shapes of biases
        folding.run_passes(model)
        self._model = model
        self._own = _exclusive(model, output)
        self._rows: dict[Key, Any] = {}
        """what was computed on rows"""
        self._turned: dict[Key, Any] = {}
        """the same in the other layout, computed where it is needed"""

    def run(self) -> tuple[str, ...]:
        """Go through the graph from its inputs on."""
        replaced = []
        for node in self._model.get_ordered_ops():
            inputs = inputs_of(node)
            rows = self._on_rows(node, inputs)
            if rows is not None:
                self._rows[key(node.output(0))] = rows
                if node.get_type_name() == "Convolution":
                    replaced.append(node.get_friendly_name().removesuffix(_IMPORTED))
                continue
            for index, value in enumerate(inputs):
                if key(value) in self._rows:
                    node.input(index).replace_source_output(self._as_image(value).output(0))
        self._model.validate_nodes_and_infer_types()
        return tuple(replaced)

    def _on_rows(self, node: Any, inputs: list[Any]) -> Any:
        """A node's output as rows; None if it stays as it is."""
        if node.get_friendly_name() not in self._own:
            return None
        kind = node.get_type_name()
        if kind == "Convolution":
            return self._convolution(node, inputs) if _fits(node, inputs) else None
        if not any(key(value) in self._rows for value in inputs):
            return None
        if resizes_images(node) and all(sides(inputs[0])[1:]):
            return self._interpolate(node, inputs)
        if kind == "Relu":
            return self._operators.relu(self._as_rows(inputs[0]))
        if kind == "Add" and all(_spreads(value, node.output(0)) for value in inputs):
            return self._operators.add(*map(self._as_rows, inputs))
        return None

    def _interpolate(self, node: Any, inputs: list[Any]) -> Any:
        _, channels, height, width = sides(inputs[0])
        image = self._shaped(self._as_rows(inputs[0]), height, width, channels)
        resized = self._operators.interpolate(
            image,
            ints(sides(node.output(0))[2:]),
            "linear_onnx",
            "sizes",
            coordinate_transformation_mode="half_pixel",
            axes=ints([1, 2]),
        )
        return self._shaped(resized, -1, channels)

    def _shaped(self, node: Any, *shape: int) -> Any:
        """Reshaped behind the batch, whose length may be open."""
        return self._operators.reshape(node, ints([0, *shape]), special_zero=True)

    def _convolution(self, node: Any, inputs: list[Any]) -> Any:
        image, weight = inputs
        _, channels, height, width = sides(image)
        kernels = transform_kernels(weight.get_node().data)
        channels_out = kernels.shape[2]
        # A row of zeros for what lies around the image.
        rows = self._operators.pad(
            self._as_rows(image), ints([0, 0, 0]), ints([0, 1, 0]), "constant",
            self._operators.constant(np.float32(0)),
        )  # fmt: skip
        least = SPAN * SPAN * 4 * max(channels, channels_out)
        count = -(-height // TILE) * -(-width // TILE)
        parts = tiles(height, width, -(-count * least // _PART_BYTES))
        constants = [
            self._operators.constant(each)
            for each in (input_transform(), kernels, output_transform())
        ]
        images = [self._tiles(rows, part, constants, channels, channels_out) for part in parts]
        return images[0] if len(images) == 1 else self._operators.concat(images, 1)

    def _tiles(
        self, rows: Any, part: Tiles, constants: list[Any], channels: int, channels_out: int
    ) -> Any:
        operators = self._operators
        into, kernels, out = constants
        axis = operators.constant(np.int32(1))
        gathered = operators.gather(rows, operators.constant(part.gather), axis)
        flat = self._shaped(gathered, SPAN * SPAN, part.number * channels)
        moved = self._shaped(
            operators.matmul(into, flat, False, False), SPAN * SPAN, part.number, channels
        )
        product = operators.matmul(moved, kernels, False, False)
        flat = self._shaped(product, SPAN * SPAN, part.number * channels_out)
        back = self._shaped(
            operators.matmul(out, flat, False, False), TILE * TILE * part.number, channels_out
        )
        return operators.gather(back, operators.constant(part.scatter), axis)

    def _as_rows(self, value: Any) -> Any:
        name = key(value)
        if name in self._rows:
            return self._rows[name]
        if name not in self._turned:
            channels = sides(value)[1]
            if value.get_node().get_type_name() == "Relu":
                # Once more changes nothing, but its output has no other reader, and then OpenVINO
                # turns it for nothing: 3 ms less for 256 channels at 88x156.
                value = self._operators.relu(value).output(0)
            turned = self._operators.transpose(value, ints([0, 2, 3, 1]))
            self._turned[name] = self._shaped(turned, -1, channels)
        return self._turned[name]

    def _as_image(self, value: Any) -> Any:
        name = key(value)
        if name not in self._turned:
            _, channels, height, width = sides(value)
            image = self._shaped(self._rows[name], height, width, channels)
            self._turned[name] = self._operators.transpose(image, ints([0, 3, 1, 2]))
        return self._turned[name]


def _exclusive(model: Any, output: str) -> set[str]:
    """Names of the nodes that an output depends on, and no other output does."""
    mine: set[str] = set()
    others: set[str] = set()
    for result in model.get_results():
        seen = mine if output in result.input_value(0).names else others
        waiting = [result]
        while waiting:
            node = waiting.pop()
            if node.get_friendly_name() not in seen:
                seen.add(node.get_friendly_name())
                waiting += [value.get_node() for value in inputs_of(node)]
    return mine - others


def _fits(node: Any, inputs: list[Any]) -> bool:
    """Whether a convolution is 3x3, keeps the size, and is wide enough."""
    image, weight = inputs
    settings = node.get_attributes()
    ones = ("strides", "dilations", "pads_begin", "pads_end")
    if any(settings[name] != [1, 1] for name in ones):
        return False
    if weight.get_node().get_type_name() != "Constant":
        return False
    channels_out, channels, *kernel = sides(weight)
    return (
        kernel == [TAPS, TAPS]
        and min(channels_out, channels) >= LEAST_CHANNELS
        and all(sides(image)[1:])
    )


def _spreads(value: Any, over: Any) -> bool:
    """Whether a value has the shape of another, or one number a channel of it."""
    shape, whole = sides(value), sides(over)
    return len(shape) == 4 and (shape == whole or shape == [1, whole[1], 1, 1])
