"""The command line in shells and terminals of all kinds."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from visolo_runtime.models.shipped import shipped_model

WITHOUT_TORCH = "import sys; sys.modules['torch'] = None; from visolo.cli import main; main()"


def visolo(*arguments: object, **variables: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *map(str, arguments)],
        env={**os.environ, **variables},
        capture_output=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("typed", "completed"),
    [("visolo ru", "run"), ("visolo run --fra", "--frames"), ("visolo export --form", "--format")],
)
def test_a_shell_completes_commands_and_options(typed: str, completed: str) -> None:
    word = str(len(typed.split()) - 1)
    variables = {"_VISOLO_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": word}
    assert visolo(**variables).stdout.decode().split() == [completed]


@pytest.mark.parametrize(
    "variables",
    [
        {"PYTHONIOENCODING": "latin-1"},
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C"},
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    ],
    ids=lambda variables: " ".join(f"{name}={value}" for name, value in variables.items()),
)
def test_what_a_terminal_cannot_show_is_replaced(tmp_path: Path, variables: dict[str, str]) -> None:
    model = tmp_path / "m.visolo"
    shutil.copytree(shipped_model(), model)
    manifest = json.loads((model / "manifest.json").read_text())
    manifest["labels"]["names"][0] = "円盤"
    (model / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    shown = visolo("info", model, **variables)
    assert shown.returncode == 0, shown.stderr
    assert b"square" in shown.stdout
    missing = visolo("run", model, tmp_path / "映像.mp4", **variables)
    assert missing.returncode == 2
    assert b"Traceback" not in missing.stderr
    assert b"there is no video" in missing.stderr
