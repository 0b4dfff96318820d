"""The house: which part may import which. An arrow only ever goes down, without an exception."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = {
    "visolo": ROOT,
    "benchmarks": ROOT,
    "visolo_export": ROOT / "export",
    "visolo_train": ROOT / "train",
    "visolo_runtime": ROOT / "runtime",
    "visolo_core": ROOT,
}
FLOORS = (
    "visolo",
    "benchmarks",
    "visolo_export",
    "visolo_train.learning",
    "visolo_train.evaluation",
    "visolo_train.exporters",
    "visolo_train.importers",
    "visolo_train.data",
    "visolo_train",
    "visolo_runtime.serving",
    "visolo_runtime.triton",
    "visolo_runtime.bulk",
    "visolo_runtime",
    "visolo_runtime.web",
    "visolo_runtime.session",
    "visolo_runtime.sinks",
    "visolo_runtime.sources",
    "visolo_runtime.video",
    "visolo_runtime.engines",
    "visolo_runtime.models",
    "visolo_runtime.bundle",
    "visolo_core.nn",
    "visolo_core",
)
"""Top to bottom. A module belongs to the longest of these names that it begins with."""
LIBRARIES = ("onnxruntime", "openvino", "tensorrt", "torch")
"""Folders of ``visolo_runtime.engines`` that know nothing of each other."""


def modules() -> dict[str, Path]:
    """Every module of every room, by its name."""
    named = {}
    for room, folder in ROOMS.items():
        for path in sorted((folder / room).rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            named[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return named


MODULES = modules()


def imports(name: str) -> Iterator[str]:
    """The modules of the house that a module imports, those inside functions and of types too."""
    path = MODULES[name]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: imports are absolute"
            base = node.module or ""
            targets = [
                inner if (inner := f"{base}.{alias.name}") in MODULES else base
                for alias in node.names
            ]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            # A module that is imported by its name, as commands and public names are.
            targets = [word for word in [node.value.partition(":")[0]] if "." in word]
        else:
            continue
        if path.parent.name == "benchmarks":  # scripts, which import each other by bare names
            targets = [f"benchmarks.{each}" if f"benchmarks.{each}" in MODULES else each
                     for each in targets]  # fmt: skip
        yield from (each for each in targets if each in MODULES and each != name)


ARROWS = {(name, target) for name in MODULES for target in imports(name)}


def floor(name: str) -> int:
    matching = [each for each in FLOORS if name == each or name.startswith(f"{each}.")]
    return FLOORS.index(max(matching, key=len))


def going_up(arrows: set[tuple[str, str]]) -> list[str]:
    return sorted(f"{a} imports {b}" for a, b in arrows if floor(a) > floor(b))


def circle(arrows: set[tuple[str, str]]) -> list[str]:
    """Modules that import one another, as far as they cannot be put in an order."""
    left = {name: {b for a, b in arrows if a == name} for name in MODULES}
    while True:
        done = {name for name, targets in left.items() if not targets & left.keys()}
        if not done:
            return sorted(left)
        left = {name: targets for name, targets in left.items() if name not in done}


def test_no_arrow_goes_up() -> None:
    assert len(ARROWS) > 400  # or nothing is looked at
    assert going_up(ARROWS) == []


def test_there_is_no_circle() -> None:
    assert circle(ARROWS) == []


def test_libraries_know_nothing_of_each_other() -> None:
    def library(name: str) -> str:
        parts = name.split(".")
        return parts[2] if parts[:2] == ["visolo_runtime", "engines"] and len(parts) > 3 else ""

    between = [(a, b) for a, b in ARROWS if library(a) and library(b) and library(a) != library(b)]
    assert between == []
    assert {library(name) for name in MODULES} - {""} == set(LIBRARIES)


@pytest.mark.parametrize(
    ("upper", "lower"),
    [
        ("visolo.cli", "visolo_runtime.runner"),
        ("visolo_export.rebuild", "visolo_runtime.engines.tensorrt.backend"),
        ("visolo_runtime.session.session", "visolo_runtime.sources.feed"),
        ("visolo_core.nn.checkpoint", "visolo_core.config"),
    ],
)
def test_what_the_test_would_say(upper: str, lower: str) -> None:
    assert going_up({(upper, lower)}) == []
    assert going_up({(lower, upper)}) == [f"{lower} imports {upper}"]
    assert circle({(upper, lower), (lower, upper)}) == sorted([upper, lower])


def test_every_file_is_found_by_its_folder() -> None:
    """The deepest path is room, folder, file; below the engines' folder stands one a library."""
    for name in MODULES:
        depth = len(name.split("."))
        limit = 4 if name.startswith("visolo_runtime.engines.") else 3
        assert depth <= limit, name
