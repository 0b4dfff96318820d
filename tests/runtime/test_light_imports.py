"""The runtime works where PyTorch is not, and the command line answers at once."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

BLOCK = """
import sys

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "onnx", "onnxscript", "safetensors"):
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)

sys.meta_path.insert(0, NoTorch())
"""


def without_torch(
    code: str, *arguments: object, status: int = 0
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", BLOCK + code, *(str(argument) for argument in arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == status, done.stderr
    return done


def test_importing_core_and_runtime() -> None:
    without_torch("import visolo; from visolo import *")


def test_running_a_bundle(lite_bundle: Path, tmp_path: Path) -> None:
    from PIL import Image

    from visolo_runtime.video.sample_clip import sample_frames

    for number, frame in enumerate(sample_frames(3)):
        Image.fromarray(frame).save(tmp_path / f"{number}.jpg")
    results = tmp_path / "results.json"
    without_torch(
        "from visolo.cli import main; main(sys.argv[1:])",
        "run", lite_bundle, tmp_path, "--results", results, "--video", tmp_path / "out.mp4",
    )  # fmt: skip
    assert len(json.loads(results.read_text())) > 0


@pytest.mark.parametrize("command", ["info", "doctor"])
def test_other_commands_of_the_runtime(lite_bundle: Path, command: str) -> None:
    arguments = [command, lite_bundle] if command == "info" else [command]
    done = without_torch("from visolo.cli import main; main(sys.argv[1:])", *arguments)
    assert done.stdout


def test_weights_are_described_without_torch(lite_weights: Path) -> None:
    code = "from visolo.cli import main; main(sys.argv[1:])"
    done = without_torch(code, "info", lite_weights, "--json")
    assert json.loads(done.stdout)["kind"] == "weights"


@pytest.mark.parametrize(
    "arguments", [("convert", "a.pth", "-o", "b.pt"), ("run", "{weights}", "{weights}")]
)
def test_commands_that_need_torch_say_which_extra_brings_it(
    lite_weights: Path, arguments: tuple[str, ...]
) -> None:
    code = "from visolo.cli import main; main(sys.argv[1:])"
    given = [each.format(weights=lite_weights) for each in arguments]
    if given[0] == "run":
        given[2] = str(lite_weights.parent)  # any folder with an image
        from PIL import Image

        Image.new("RGB", (64, 64)).save(lite_weights.parent / "image.png")
    done = without_torch(code, *given, status=2)
    assert "pip install 'visolo[export]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_answers_at_once_and_without_heavy_imports() -> None:
    code = """
from visolo.cli import main
try:
    main(["--help"])
except SystemExit:
    pass
heavy = {"numpy", "pydantic", "av", "PIL", "onnxruntime", "torch", "rich"} & set(sys.modules)
assert not heavy, heavy
"""
    spent = []
    for _ in range(3):
        begin = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", "import sys\n" + code],
            capture_output=True,
            text=True,
            check=True,
        )
        spent.append(time.perf_counter() - begin)
    assert "verify" in done.stdout
    assert min(spent) < 0.5
