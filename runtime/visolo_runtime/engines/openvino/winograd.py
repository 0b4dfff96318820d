"""Winograd's minimal filtering: 3x3 convolutions with a quarter of the multiplications.

A tile of 4x4 outputs of a 3x3 convolution needs 6x6 inputs. In another basis, input tile and kernel
are multiplied element by element: 36 multiplications instead of 144. Over many channels the
elements become 36 matrix products (Lavin and Gray, "Fast algorithms for convolutional neural
networks", CVPR 2016).

A basis is defined by five points and infinity (Toom and Cook). With the usual points 0, 1, -1, 2,
-2 the rounding error in float32 is ten times that of a direct convolution; with those used here, it
is five times.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

TILE = 4
"""Outputs per side of a tile."""
TAPS = 3
"""Taps per side of a kernel."""
SPAN = TILE + TAPS - 1
"""Inputs per side of a tile."""
_POINTS = (Fraction(0), Fraction(3, 4), Fraction(-3, 4), Fraction(3, 2), Fraction(-3, 2))

Floats64 = NDArray[np.float64]


class Basis(NamedTuple):
    """The matrices for one dimension: outputs = output @ ((kernel @ taps) * (input @ inputs))."""

    output: Floats64
    """[TILE, SPAN]"""
    kernel: Floats64
    """[SPAN, TAPS]"""
    input: Floats64
    """[SPAN, SPAN]"""


@cache
def basis() -> Basis:
    """The matrices, computed exactly in fractions and rounded once."""
    output = [[point**power for point in _POINTS] + [Fraction(power == TILE - 1)]
              for power in range(TILE)]  # fmt: skip
    kernel, inputs = [], []
    for point in _POINTS:
        others = [other for other in _POINTS if other != point]
        scale = _product(others, point)
        kernel.append([point**power / scale for power in range(TAPS)])
        inputs.append([*_coefficients(others), Fraction(0)])
    kernel.append([Fraction(power == TAPS - 1) for power in range(TAPS)])
    inputs.append(_coefficients(_POINTS))
    return Basis(*(np.array(matrix, np.float64) for matrix in (output, kernel, inputs)))


def _product(roots: Sequence[Fraction], at: Fraction) -> Fraction:
    """Value of the polynomial with these roots at a point."""
    value = Fraction(1)
    for root in roots:
        value *= at - root
    return value


def _coefficients(roots: Sequence[Fraction]) -> list[Fraction]:
    """Coefficients of the polynomial with these roots, the constant term first."""
    coefficients = [Fraction(1)]
    for root in roots:
        shifted = [Fraction(0), *coefficients]
        coefficients = [
            high - root * low
            for high, low in zip(shifted, [*coefficients, Fraction(0)], strict=True)
        ]
    return coefficients


def input_transform() -> NDArray[np.float32]:
    """float32 [SPAN * SPAN, SPAN * SPAN]: transforms the elements of an input tile."""
    matrix = basis().input
    return np.kron(matrix, matrix).astype(np.float32)


def output_transform() -> NDArray[np.float32]:
    """float32 [TILE * TILE, SPAN * SPAN]: transforms products to the elements of an output
    tile."""
    matrix = basis().output
    return np.kron(matrix, matrix).astype(np.float32)


def transform_kernels(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Transform kernels to the basis.

    Args:
        weight: [K, C, 3, 3], the weight of a convolution.

    Returns:
        [SPAN * SPAN, C, K], a matrix for each element of a tile.
    """
    matrix = basis().kernel
    outputs, inputs = weight.shape[:2]
    transformed: Floats64 = np.einsum(
        "ia,jb,kcab->ijck", matrix, matrix, weight.astype(np.float64), optimize=True
    )
    return transformed.reshape(SPAN * SPAN, inputs, outputs).astype(np.float32)


class Tiles(NamedTuple):
    """Some rows of the tiles of an image."""

    number: int
    gather: NDArray[np.int32]
    """[SPAN * SPAN * number], the position in the image (row by row) of each element of every tile;
    the first position after the image stands for the zeros around it"""
    scatter: NDArray[np.int32]
    """[rows * width], the index of each output position among the [TILE * TILE * number] elements
    of the tiles"""


def tiles(height: int, width: int, parts: int) -> list[Tiles]:
    """The tiles of an image in parts from top to bottom, at most one part per row of tiles."""
    down, across = -(-height // TILE), -(-width // TILE)
    return [_part(rows, across, height, width) for rows in np.array_split(np.arange(down), parts)
            if len(rows)]  # fmt: skip


def _part(rows: NDArray[np.int64], across: int, height: int, width: int) -> Tiles:
    count = len(rows) * across
    element = np.arange(SPAN)[:, None]
    y = (element + rows * TILE - 1)[:, None, :, None]
    x = (element + np.arange(across) * TILE - 1)[None, :, None, :]
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    gather = np.where(inside, y * width + x, height * width)
    y = np.arange(rows[0] * TILE, min(height, (rows[-1] + 1) * TILE))[:, None]
    x = np.arange(width)[None, :]
    which = (y // TILE - rows[0]) * across + x // TILE
    scatter = (y % TILE * TILE + x % TILE) * count + which
    return Tiles(count, gather.ravel().astype(np.int32), scatter.ravel().astype(np.int32))
