"""Label Studio's code for masks that were drawn with its brush.

It is the "rle-pack" of thi.ng, over the bytes of an RGBA picture; the mask is the opacity. A stream
of bits, the highest of a byte first:

* 32 bits: number of values; 5 bits: bits of a value, less 1; 4 times 4 bits: the sizes of a length,
  less 1;
* then runs: a bit, 1 if one value is repeated and 0 if all are listed; 2 bits that choose a size;
  the length of that many bits, less 1; and the value or values.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from visolo_core.masks import Masks

_CHANNELS = 4
_VALUE_BITS = 8
_OPAQUE = 128  # half; the brush's edge is smooth


def decode_brush(code: Any, size: tuple[int, int]) -> Masks:
    """The mask of a brush code.

    Args:
        code: bytes, as a list of numbers from 0 to 255.
        size: (H, W) of the picture.

    Returns:
        bool [H, W].

    Raises:
        ValueError, TypeError: if it is not such a code, or of another size.
    """
    bits = _Bits(bytes(code))
    number = bits.read(32)
    expected = size[0] * size[1] * _CHANNELS
    if number != expected:
        raise ValueError(
            f"its brush mask has {number} values, a picture of {size[1]}x{size[0]} has {expected}"
        )
    if (width := bits.read(5) + 1) != _VALUE_BITS:
        raise ValueError(f"its brush mask has values of {width} bits, a picture has {_VALUE_BITS}")
    lengths = [bits.read(4) + 1 for _ in range(4)]
    values = np.zeros(number, np.uint8)
    at = 0
    while at < number:
        repeated = bits.read(1)
        end = at + 1 + bits.read(lengths[bits.read(2)])
        if end > number:
            raise ValueError("its brush mask has runs beyond the picture")
        if repeated:
            values[at:end] = bits.read(_VALUE_BITS)
        else:
            values[at:end] = bits.read_bytes(end - at)
        at = end
    return np.asarray(values.reshape(*size, _CHANNELS)[..., -1] >= _OPAQUE)


class _Bits:
    """Reads numbers from bytes, the highest bit first."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def read(self, count: int) -> int:
        """The next number, of ``count`` bits."""
        end = self._at + count
        first, last = self._at // 8, (end + 7) // 8
        if last > len(self._data):
            raise ValueError("its brush mask ends too early")
        number = int.from_bytes(self._data[first:last], "big") >> (8 * last - end)
        self._at = end
        return number & ((1 << count) - 1)

    def read_bytes(self, count: int) -> NDArray[np.uint8]:
        """uint8 [count], the next values of eight bits each."""
        return np.frombuffer(self.read(8 * count).to_bytes(count, "big"), np.uint8)
