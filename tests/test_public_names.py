"""The public names, listed once more: whoever changes them changes this file too."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import visolo

NAMES = {
    "Instance", "Instances", "Model", "Nv12Frame", "Session", "Streams", "Track", "VisoloError",
    "__version__", "draw_instances", "load", "track",
}  # fmt: skip
ARRAYS = {"xyxy", "class_id", "confidence", "tracker_id", "masks"}
METHODS = {
    "Session": {"step", "skip", "finish", "frames", "tracks_begun", "stage_ms"},
    "Streams": {"step", "restart", "close"},
    "Instances": ARRAYS - {"class_id", "confidence", "tracker_id"} | {"rles", "to_supervision"},
    "Instance": {"track_id", "label", "score", "box", "mask", "rle", "track_label", "track_score"},
}


def test_the_list() -> None:
    assert set(visolo.__all__) == NAMES
    assert set(dir(visolo)) == NAMES
    for name in NAMES:
        assert getattr(visolo, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        visolo.nothing  # noqa: B018


@pytest.mark.parametrize(("kind", "names"), METHODS.items())
def test_what_the_classes_offer(kind: str, names: set[str]) -> None:
    assert names <= set(dir(getattr(visolo, kind)))
    assert (
        set(dir(visolo.Instances)) | set(inspect.signature(visolo.Instances).parameters) >= ARRAYS
    )


def test_everything_public_is_described() -> None:
    for name in NAMES - {"__version__"}:
        thing = getattr(visolo, name)
        assert inspect.getdoc(thing), name
        if inspect.isclass(thing):
            for method, value in vars(thing).items():
                if not method.startswith("_") and callable(value):
                    assert inspect.getdoc(value), f"{name}.{method}"


def test_star_import_needs_nothing_but_the_base_packages() -> None:
    code = "from visolo import *; import sys; print('torch' in sys.modules, load.__name__)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["False", "load"]
