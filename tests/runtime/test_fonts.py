"""Labels in any script."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from visolo_core.categories import LabelSet
from visolo_core.instances import Instances
from visolo_runtime.sinks import fonts
from visolo_runtime.sinks.drawing import draw_instances
from visolo_runtime.sinks.outputs import Outputs


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A system whose folder of fonts is empty."""
    folder = tmp_path / "fonts"
    folder.mkdir()
    monkeypatch.setattr(fonts, "folders", lambda: [folder])
    forget()
    yield folder
    forget()


def forget() -> None:
    fonts._font_of.cache_clear()
    fonts._files.cache_clear()
    fonts._used.clear()


def install(folder: Path) -> Path:
    """DejaVu Sans, which matplotlib has: Latin, Cyrillic and Arabic, but not Thai."""
    spec = importlib.util.find_spec("matplotlib")
    assert spec is not None
    assert spec.origin is not None
    installed = folder / "DejaVuSans.ttf"
    fonts_of_matplotlib = Path(spec.origin).parent / "mpl-data/fonts/ttf"
    shutil.copy(fonts_of_matplotlib / "DejaVuSans.ttf", installed)
    (folder / "broken.ttf").write_bytes(b"no font")
    return installed


def test_pillows_own_font_needs_no_system(system: Path) -> None:
    assert fonts.in_fonts("#12 traffic light 0.50") == [("", "#12 traffic light 0.50")]
    assert fonts.missing_fonts(["disc", "ring"]) is None


def test_a_label_is_shown_in_the_fonts_that_have_its_characters(system: Path) -> None:
    path = str(install(system))
    assert fonts.in_fonts("#1 грузовик 0.5") == [("", "#1 "), (path, "грузовик"), ("", " 0.5")]
    # Two words of a script stay together, and so do marks with the letter that they belong to.
    assert fonts.in_fonts("كلب كبير 1") == [(path, "كلب كبير"), ("", " 1")]
    assert fonts.in_fonts("x\u0301") == [("", "x\u0301")]
    assert fonts.missing_fonts(["грузовик", "كلب"]) is None


@pytest.mark.parametrize(
    ("label", "package"), [("人", "fonts-noto-cjk"), ("สุนัข", "fonts-noto-core"), ("犬 dog", "cjk")]
)
def test_what_no_font_has_is_said_and_shown_as_question_marks(
    system: Path, label: str, package: str
) -> None:
    install(system)
    note = fonts.missing_fonts(["disc", label])
    assert note is not None
    assert f"'{label}'" in note
    assert "disc" not in note
    assert package in note
    ((path, shown),) = fonts.in_fonts(label)
    assert path == ""
    assert set(shown) <= set("? dog\u0e31\u0e38")
    names = LabelSet("mine", (1,), (label,))
    assert Outputs(video=Path("v.mp4")).notes(names) == [note]
    assert Outputs(results=Path("r.json")).notes(names) == []


def test_scripts_that_need_shaping(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(system)
    monkeypatch.setattr(fonts, "_can_shape", lambda: False)
    note = fonts.missing_fonts(["disc", "كلب"])
    assert note is not None
    assert "Raqm" in note
    assert fonts.missing_fonts(["грузовик"]) is None


def test_labels_differ_in_the_picture(system: Path) -> None:
    """What is drawn are the letters, not a box for each."""
    install(system)
    masks = np.ones((1, 120, 320), np.uint8)
    none, one = np.zeros(1, np.int64), np.ones(1, np.float32)
    names = ("ЖЖЖЖ", "ШШШШ", "ЩЩЩЩ")
    first = Instances(0, (120, 320), LabelSet("mine", (1,), ("a",)), none + 1, none, one, none, one,
                      none, masks)  # fmt: skip
    pictures = [
        draw_instances(
            np.zeros((120, 320, 3), np.uint8),
            replace(first, labels=LabelSet("mine", (1,), (name,))),
        )
        for name in names
    ]
    assert len({picture.tobytes() for picture in pictures}) == len(names)
