"""Pictures whose pixels are numbers of objects: DAVIS, YouTube-VOS and MOTS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from visolo_core.errors import VisoloError

BACKGROUND, VOID = 0, 255


def read_indices(path: Path) -> NDArray[np.uint8]:
    """uint8 [H, W] of a palette or grey picture: 0 is background, 255 of no object.

    In a grey picture that has only 0 and 255, as in DAVIS 2016, 255 is the object 1.

    Raises:
        VisoloError: if it cannot be read or is a picture of another kind.
    """
    mode, pixels = _read(path, ("P", "L", "1"), "one of palette or grey values")
    if mode != "P" and not ((pixels != BACKGROUND) & (pixels != VOID) & (pixels != 1)).any():
        return np.asarray((pixels > 0).astype(np.uint8))
    return pixels.astype(np.uint8)


def read_instances(path: Path) -> NDArray[np.int64]:
    """int64 [H, W] of a grey picture of 16 bits.

    Raises:
        VisoloError: if it cannot be read or is a picture of another kind.
    """
    return _read(path, ("I;16", "I;16B", "I"), "grey with 16 bits")[1].astype(np.int64)


def _read(path: Path, modes: tuple[str, ...], expected: str) -> tuple[str, NDArray[Any]]:
    try:
        with Image.open(path) as image:
            if image.mode not in modes:
                raise VisoloError(
                    f"'{path}' is not a picture of object numbers: it is {image.mode}, not "
                    f"{expected}"
                )
            return image.mode, np.asarray(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise VisoloError(f"cannot read '{path}': {error}") from error
