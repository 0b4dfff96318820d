"""Centres and extents of masks."""

from __future__ import annotations

import pytest
import torch

from golden_recipe import draw_masks
from golden_units import GoldenUnits
from visolo_core.errors import VisoloError
from visolo_train.learning.targets import mask_centres


def test_official_extent_equals_the_official_code(golden_units: GoldenUnits) -> None:
    masks = torch.from_numpy(draw_masks("B", 1, 352, 624))
    golden = golden_units.arrays["center_size"]
    centres = torch.stack(mask_centres(masks, "official")).numpy()
    assert centres == pytest.approx(golden, rel=1e-6)


def test_mask_extent_is_the_size_of_the_mask() -> None:
    masks = torch.zeros(2, 20, 30, dtype=torch.bool)
    masks[0, 5:9, 10:20] = True  # the other one is empty
    centres = mask_centres(masks, "mask")
    assert [side[0].item() for side in centres] == [6.5, 14.5, 4, 10]
    assert [side[1].item() for side in centres] == [0, 0, 1, 1]


def test_unknown_extent() -> None:
    with pytest.raises(VisoloError, match="choose official or mask"):
        mask_centres(torch.zeros(1, 2, 2, dtype=torch.bool), "box")  # type: ignore[arg-type]
