"""Settings that do not fit together are refused."""

from __future__ import annotations

from typing import Any

import pytest

from visolo_core.config import PAPER, InferenceConfig, ModelConfig
from visolo_core.errors import VisoloError


def test_the_paper() -> None:
    assert (PAPER.cells, PAPER.key_width, PAPER.mask_size) == (252, 128, (88, 156))


@pytest.mark.parametrize(
    ("setting", "word"),
    [
        ({"input_size": (360, 640)}, "multiples of 16"),  # official bug 7
        ({"input_size": (0, 640)}, "multiples of 16"),
        ({"backbone": "vgg16"}, "resnet50"),
        ({"backbone_norm": "layer"}, "frozen, batch"),
        ({"backbone_width": 0}, "at least one channel"),
        ({"mask_width": 40}, "mask width 40"),
        ({"width": 100}, "multiple of the groups"),
        ({"grid": (0, 4)}, "at least one cell"),
        ({"classes": 0}, "at least one class"),
    ],
)
def test_an_impossible_network(setting: dict[str, Any], word: str) -> None:
    with pytest.raises(VisoloError, match=word):
        ModelConfig(**setting)


@pytest.mark.parametrize(
    "setting",
    [
        {"memory_slots": -1},
        {"keep_every": 0},
        {"score_threshold": 1.5},
        {"match_threshold": -0.1},
        {"nms_sigma": 0.0},
        {"max_instances": 0},
        {"lost_limit": -2},
        {"return_threshold": 1.5},
        {"track_score_power": -1.0},
        {"track_score_power": float("nan")},
    ],
)
def test_impossible_inference_settings(setting: dict[str, Any]) -> None:
    with pytest.raises(VisoloError, match=next(iter(setting))):
        InferenceConfig(**setting)
