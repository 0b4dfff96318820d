"""One name, one meaning: no two modules of the house define the same public name."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator

from test_floors import MODULES

COMMAND = "the command as it is typed, and the function of the library that it calls"
ALLOWED = {
    "main": "where a script or the command line begins",
    "run": COMMAND,
    "train": COMMAND,
    "verify": COMMAND,
}
"""Names that are there twice, and why."""


def names(text: str) -> Iterator[str]:
    """The public functions, classes, constants and types that a module defines at its top level."""
    for node in ast.parse(text).body:
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                defined = [name]
            case ast.Assign(targets=targets):
                defined = [each.id for each in targets if isinstance(each, ast.Name)]
            case ast.AnnAssign(target=ast.Name(id=name)):
                defined = [name]
            case _:
                defined = []
        yield from (name for name in defined if not name.startswith("_"))


def shared(texts: dict[str, str]) -> dict[str, list[str]]:
    """Names that several modules define, with those modules."""
    homes: dict[str, list[str]] = defaultdict(list)
    for module, text in texts.items():
        for name in dict.fromkeys(names(text)):
            homes[name].append(module)
    return {name: modules for name, modules in homes.items() if len(modules) > 1}


def test_a_name_has_one_home() -> None:
    texts = {module: path.read_text(encoding="utf-8") for module, path in MODULES.items()}
    assert sum(len(set(names(text))) for text in texts.values()) > 300  # or nothing is looked at
    twice = shared(texts)
    assert {name: homes for name, homes in twice.items() if name not in ALLOWED} == {}
    assert set(ALLOWED) == set(twice)  # no reason outlives its name


def test_what_counts_as_a_name() -> None:
    first = "A: int = 1\nB = 2\n_C = 3\ndef d(): ...\nclass E:\n    F = 1"
    assert shared({"first": first, "second": first}) == {
        name: ["first", "second"] for name in ("A", "B", "d", "E")
    }
    assert shared({"first": first, "second": "from first import A, d"}) == {}
