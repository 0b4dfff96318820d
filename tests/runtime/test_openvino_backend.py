"""OpenVINO beside the rest of a process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

GIVEN_UP_IN_ORDER = """
import gc, os, signal, sys
import numpy as np
from visolo_runtime.session.loading import load

frame = np.zeros((96, 160, 3), np.uint8)
signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
models = [load(sys.argv[1], backend="openvino") for _ in range(2)]
for model in models:
    model.session().step(frame)
del model
while models:
    del models[0]
    gc.collect()
blocks = [np.ones(500_000) for _ in range(8)]  # what was freed is not there by chance
os.kill(os.getpid(), signal.SIGUSR1)
"""

CONVERTED_AND_LOADED = """
import sys
from pathlib import Path

events = []
watched = ("os.fork", "os.posix_spawn", "subprocess.Popen", "socket.connect")
sys.addaudithook(lambda event, _: events.append(event) if event in watched else None)
from visolo_core.contract import GRAPHS
from visolo_export.openvino_export import export_openvino
from visolo_runtime.session.loading import load

bundle = Path(sys.argv[1])
files = {graph: bundle / f"{graph}.onnx" for graph in GRAPHS}
export_openvino(files, Path(sys.argv[2]), lambda _: None)
load(bundle, backend="openvino")
print(events, sys.modules["openvino_telemetry"])
"""


def test_nothing_is_reported_to_the_maker(lite_bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="install visolo[openvino]")
    command = [sys.executable, "-c", CONVERTED_AND_LOADED, str(lite_bundle), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "[] None\n"), done.stderr


def test_signals_are_handled_after_models_went(lite_bundle: Path) -> None:
    pytest.importorskip("openvino", reason="install visolo[openvino]")
    command = [sys.executable, "-X", "faulthandler", "-c", GIVEN_UP_IN_ORDER, str(lite_bundle)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


def test_nobody_opens_another_core() -> None:
    """Two of them that go in the order in which they came take the stack of signals with them: the
    end of a child then kills the process, in whatever test that is."""
    root = Path(__file__).parents[2]
    folders = ("visolo", "visolo_core", "runtime", "export", "train", "tests", "benchmarks")
    files = [file for folder in folders for file in (root / folder).rglob("*.py")]
    opened = "Core" + "()"
    opening = [file for file in files if opened in file.read_text(encoding="utf-8")]
    assert [file.name for file in opening] == ["backend.py"]
