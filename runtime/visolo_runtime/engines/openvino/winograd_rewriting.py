"""Rewriting OpenVINO graphs to compute mask features by Winograd's convolution.

OpenVINO convolves directly on CPUs, as other libraries do. Most of the paper's arithmetic is 3x3
convolutions of the mask branch, whose results only reach the masks. Only those are rewritten here:
masks change by float32 rounding, and class scores, kernels, queries and keys do not change at all.

Between the rewritten convolutions, features are stored as rows [B, H * W, C] with the channels of a
position next to each other, so that tiles are gathered by copying whole rows.
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
"""Convolutions with fewer channels are faster unchanged."""
_PART_BYTES = 4 << 20
"""Most bytes of the tiles that are transformed together, so that they stay in the cache."""
_IMPORTED = "/WithoutBiases"
"""What the importer appends to the name of a convolution whose bias it splits off."""


def rewrite_convolutions(model: Any, output: str) -> tuple[str, ...]:
    """Replace the convolutions that only one output of a graph depends on.

    Args:
        model: an ``openvino.Model`` in float32, changed in place.
        output: name of that output.

    Returns:
        names of the replaced convolutions, as in the ONNX graph.
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
        """outputs computed as rows, by the output they replace"""
        self._converted: dict[Key, Any] = {}
        """outputs converted to the other layout, on demand"""

    def run(self) -> tuple[str, ...]:
        """Rewrite the graph from its inputs to its outputs; returns the convolutions replaced."""
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
        """A node's output computed as rows; None if the node stays unchanged."""
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
        """Reshape everything after the batch axis, whose length may be dynamic."""
        return self._operators.reshape(node, ints([0, *shape]), special_zero=True)

    def _convolution(self, node: Any, inputs: list[Any]) -> Any:
        image, weight = inputs
        _, channels, height, width = sides(image)
        kernels = transform_kernels(weight.get_node().data)
        channels_out = kernels.shape[2]
        # A row of zeros for the positions outside the image.
        rows = self._operators.pad(
            self._as_rows(image), ints([0, 0, 0]), ints([0, 1, 0]), "constant",
            self._operators.constant(np.float32(0)),
        )  # fmt: skip
        tile_bytes = SPAN * SPAN * 4 * max(channels, channels_out)
        count = -(-height // TILE) * -(-width // TILE)
        parts = tiles(height, width, -(-count * tile_bytes // _PART_BYTES))
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
        transformed = self._shaped(
            operators.matmul(into, flat, False, False), SPAN * SPAN, part.number, channels
        )
        product = operators.matmul(transformed, kernels, False, False)
        flat = self._shaped(product, SPAN * SPAN, part.number * channels_out)
        back = self._shaped(
            operators.matmul(out, flat, False, False), TILE * TILE * part.number, channels_out
        )
        return operators.gather(back, operators.constant(part.scatter), axis)

    def _as_rows(self, value: Any) -> Any:
        name = key(value)
        if name in self._rows:
            return self._rows[name]
        if name not in self._converted:
            channels = sides(value)[1]
            if value.get_node().get_type_name() == "Relu":
                # A second ReLU changes no value, but nothing else reads its output, so OpenVINO
                # transposes it at no cost: 3 ms less for 256 channels at 88x156.
                value = self._operators.relu(value).output(0)
            channels_last = self._operators.transpose(value, ints([0, 2, 3, 1]))
            self._converted[name] = self._shaped(channels_last, -1, channels)
        return self._converted[name]

    def _as_image(self, value: Any) -> Any:
        name = key(value)
        if name not in self._converted:
            _, channels, height, width = sides(value)
            image = self._shaped(self._rows[name], height, width, channels)
            self._converted[name] = self._operators.transpose(image, ints([0, 3, 1, 2]))
        return self._converted[name]


def _exclusive(model: Any, output: str) -> set[str]:
    """Names of the nodes that only this output depends on."""
    own: set[str] = set()
    others: set[str] = set()
    for result in model.get_results():
        seen = own if output in result.input_value(0).names else others
        pending = [result]
        while pending:
            node = pending.pop()
            if node.get_friendly_name() not in seen:
                seen.add(node.get_friendly_name())
                pending += [value.get_node() for value in inputs_of(node)]
    return own - others


def _fits(node: Any, inputs: list[Any]) -> bool:
    """Whether a convolution is 3x3, keeps the image's size, and has enough channels."""
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
    """Whether a value has the shape of ``over``, or is one number per channel of it."""
    shape, whole = sides(value), sides(over)
    return len(shape) == 4 and (shape == whole or shape == [1, whole[1], 1, 1])
