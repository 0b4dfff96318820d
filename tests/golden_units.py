"""Golden results of single functions: matrix NMS, the decoding of a frame, averages, centres."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visolo_core.masks import Masks, decode_rle

Array = NDArray[Any]


@dataclass(frozen=True)
class GoldenUnits:
    """Inputs and outputs of the official functions."""

    arrays: dict[str, Array]
    facts: dict[str, Any]
    """by decoding case, such as ``seg dense``: cells, labels and masks of the instances"""

    @classmethod
    def committed(cls) -> GoldenUnits:
        """The part in this repository."""
        folder = Path(__file__).parent / "golden"
        facts = json.loads((folder / "units.json").read_text())
        return cls(dict(np.load(folder / "units.npz")), facts)

    @classmethod
    def whole(cls, folder: Path) -> GoldenUnits:
        """Every case."""
        official = folder / "official"
        facts = json.loads((official / "units.json").read_text())
        for path in official.glob("unit_seg_*_rle.json"):
            case = path.name.removeprefix("unit_seg_").removesuffix("_rle.json")
            facts[f"seg {case}"]["masks"] = json.loads(path.read_text())
        return cls(dict(np.load(official / "units.npz")), facts)

    def scores(self, case: str) -> Array:
        """float32 [C, S], class scores of the cells of a decoded frame."""
        return self.arrays[f"seg_{case}_cats"].reshape(40, -1)

    def grid_weight(self, case: str) -> Array:
        """float32 [S]"""
        ones = np.ones(self.scores(case).shape[1], np.float32)
        return self.arrays.get(f"seg_{case}_gw", ones).ravel()

    def mask_features(self, case: str) -> Array:
        """float32 [D, H/4, W/4]"""
        return self.arrays[f"seg_{case}_masks"].astype(np.float32)

    def kernels(self, case: str, cell: Array) -> Array:
        """float32 [D, N], the kernels of some cells; only candidates are sure to be stored."""
        stored = self.arrays[f"seg_{case}_kernels"].astype(np.float32)
        kernels = stored.reshape(len(stored), -1)
        places = self.arrays.get(f"seg_{case}_cells", np.arange(kernels.shape[1]))
        assert np.isin(cell, places).all(), "the committed part lacks a candidate"
        return kernels[:, np.searchsorted(places, cell)]

    def masks(self, case: str) -> Masks:
        """bool [N, H, W], the masks of the instances, in their order."""
        return np.stack([decode_rle(rle) for rle in self.facts[f"seg {case}"]["masks"]])
