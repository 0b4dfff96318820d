"""The shipped network in the precisions of engines, for several test files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

if TYPE_CHECKING:
    from engine_graphs import EngineGraphs


@pytest.fixture(scope="session")
def drawn_frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten drawn frames in which the shipped network detects instances."""
    from visolo_train.data.synthetic import draw_clip

    folder = tmp_path_factory.mktemp("drawn")
    for number, frame in enumerate(draw_clip(2026, 38, 10, 192, 336).frames):
        Image.fromarray(frame).save(folder / f"{number:02}.png")
    return folder


@pytest.fixture(scope="session")
def engine_graphs(drawn_frames: Path, tmp_path_factory: pytest.TempPathFactory) -> EngineGraphs:
    """The shipped network's graphs, calibrated on those frames."""
    from engine_graphs import EngineGraphs

    return EngineGraphs(tmp_path_factory.mktemp("engine graphs"), drawn_frames)
