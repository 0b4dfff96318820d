"""What several tests of importers need."""

from __future__ import annotations

from pathlib import Path

import pytest

from foreign_clip import write_pictures
from foreign_files import FRAME_NAMES


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """The frames of the clip, named as CVAT names them."""
    folder = tmp_path / "pictures"
    write_pictures(folder, FRAME_NAMES)
    return folder
