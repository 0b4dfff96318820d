"""What works where PyTorch is not installed, and that the command line answers at once."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from visolo_runtime.models.shipped import shipped_model, shipped_weights

BLOCK = """
import sys

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "onnx", "onnxscript", "safetensors"):
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)

sys.meta_path.insert(0, NoTorch())
"""
SHIPPED = shipped_model()


def without_torch(
    code: str, *arguments: object, status: int = 0
) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh process in which PyTorch, ONNX and safetensors cannot be imported."""
    command = [sys.executable, "-c", BLOCK + code, *(str(argument) for argument in arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == status, done.stderr
    return done


def visolo_without_torch(*arguments: object, status: int = 0) -> subprocess.CompletedProcess[str]:
    """Call the command line in such a process."""
    return without_torch(
        "from visolo.cli import main; main(sys.argv[1:])", *arguments, status=status
    )


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data set of drawn shapes: eight videos of three frames."""
    folder = tmp_path_factory.mktemp("light") / "shapes"
    visolo_without_torch("data", "synth", folder, "--videos", 8, "--frames", 3)
    return folder / "instances.json"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of three frames of the generated clip."""
    from PIL import Image

    from visolo_runtime.video.sample_clip import sample_frames

    folder = tmp_path / "images"
    folder.mkdir()
    for number, frame in enumerate(sample_frames(3)):
        Image.fromarray(frame).save(folder / f"{number}.jpg")
    return folder


def test_the_block_blocks() -> None:
    done = without_torch("import torch", status=1)
    assert "No module named 'torch'" in done.stderr


def test_importing_every_public_name() -> None:
    without_torch("import visolo; from visolo import *")


def test_running_a_bundle(images: Path, tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    visolo_without_torch(
        "run", SHIPPED, images, "--results", results, "--video", tmp_path / "out.mp4"
    )
    assert len(json.loads(results.read_text())) > 0


def test_writing_a_repository_for_triton(tmp_path: Path) -> None:
    visolo_without_torch("triton", "shapes", "-o", tmp_path / "repository")
    assert (tmp_path / "repository/shapes/1/model.py").is_file()


def test_demo(tmp_path: Path) -> None:
    done = visolo_without_torch("demo", "--videos", 1, "--frames", 4, "-o", tmp_path / "demo")
    assert "AP50" in done.stdout
    assert (tmp_path / "demo" / "annotated.mp4").stat().st_size > 0


def test_scoring_a_model_and_then_its_results(shapes: Path, tmp_path: Path) -> None:
    results, page = tmp_path / "results.json", tmp_path / "page.html"
    model = visolo_without_torch(
        "eval", SHIPPED, "--data", shapes, "--results", results, "--html", page, "--json"
    )
    file = visolo_without_torch("score", shapes, results, "--html", page, "--json")
    assert json.loads(model.stdout) == json.loads(file.stdout)
    assert page.stat().st_size > 0


def test_drawing_and_pasting_videos(shapes: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pasted"
    visolo_without_torch("data", "synth", folder, "--videos", 2, "--frames", 2, "--paste", shapes)
    for written, videos in ((shapes, 8), (folder / "instances.json", 2)):
        assert len(json.loads(written.read_text())["videos"]) == videos


def test_checking_and_splitting_data(shapes: Path, tmp_path: Path) -> None:
    done = visolo_without_torch("data", "check", shapes, "--json")
    assert json.loads(done.stdout)["problems"] == []
    visolo_without_torch("data", "split", shapes, "-o", tmp_path / "split", "--share", 0.5)
    sides = [json.loads((tmp_path / "split" / f"{n}.json").read_text()) for n in ("train", "val")]
    assert sum(len(side["videos"]) for side in sides) == 8


def test_importing_and_exporting_data(shapes: Path, tmp_path: Path) -> None:
    exported, images = tmp_path / "coco.json", shapes.parent / "JPEGImages"
    visolo_without_torch("data", "export", shapes, "--kind", "coco", "-o", exported)
    imported = tmp_path / "imported.json"
    visolo_without_torch("data", "import", exported, "-o", imported, "--images", images)
    assert len(json.loads(imported.read_text())["videos"]) == 8


def test_relabelling_coco(tmp_path: Path) -> None:
    from visolo_core.categories import COCO

    coco, output = tmp_path / "coco.json", tmp_path / "ytvis.json"
    names = [{"id": i, "name": n} for i, n in zip(COCO.ids, COCO.names, strict=True)]
    square = [[1.0, 1.0, 9.0, 1.0, 9.0, 9.0, 1.0, 9.0]]
    annotation = {
        "id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": [1, 1, 8, 8], "area": 64,
        "segmentation": square,
    }  # fmt: skip
    image = {"id": 1, "file_name": "1.jpg", "height": 32, "width": 32}
    document = {"images": [image], "annotations": [annotation], "categories": names}
    coco.write_text(json.dumps(document))
    visolo_without_torch("data", "coco-to-ytvis", coco, "-o", output)
    assert len(json.loads(output.read_text())["annotations"]) == 1


def test_verifying_a_bundle_against_a_bundle(tmp_path: Path) -> None:
    mine, theirs, page = tmp_path / "a.visolo", tmp_path / "b.visolo", tmp_path / "page.html"
    shutil.copytree(SHIPPED, mine)
    shutil.copytree(SHIPPED, theirs)
    done = visolo_without_torch(
        "verify", mine, "--reference", theirs, "--frames", 3, "--html", page, "--json"
    )
    assert json.loads(done.stdout)["passed"]
    assert page.stat().st_size > 0


@pytest.mark.parametrize("command", [("info", SHIPPED), ("doctor",)], ids=lambda words: words[0])
def test_other_commands_of_the_runtime(command: tuple[object, ...]) -> None:
    assert visolo_without_torch(*command).stdout


def test_weights_are_described() -> None:
    weights = shipped_weights()
    done = visolo_without_torch("info", weights, "--json")
    assert json.loads(done.stdout)["kind"] == "weights"


@pytest.mark.parametrize(
    "command",
    [
        "convert a.pth -o b.pt",
        "run {weights} {images}",
        "verify {bundle} --reference {weights}",
        "export {weights} -o {images}/new.visolo",
        "train lite_synth",
    ],
    ids=lambda command: command.split()[0],
)
def test_commands_that_need_torch_say_which_extra_brings_it(images: Path, command: str) -> None:
    weights = shipped_weights()
    words = command.format(bundle=SHIPPED, weights=weights, images=images).split()
    done = visolo_without_torch(*words, status=2)
    assert "pip install 'visolo[export]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_public_name_is_there_at_once() -> None:
    """Half of the limit is what Python needs for dataclasses and typing on two slow cores. It is
    the processor's time, which others on the machine do not change."""
    code = """
import sys, time
begin = time.process_time()
import visolo
visolo.load
print(time.process_time() - begin)
heavy = {"numpy", "pydantic", "av", "PIL", "onnxruntime", "openvino", "torch"} & set(sys.modules)
assert not heavy, heavy
"""
    seconds = [
        float(
            subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, check=True
            ).stdout
        )
        for _ in range(5)
    ]
    assert min(seconds) < 0.1


def test_help_answers_at_once_and_without_heavy_imports() -> None:
    code = """
import sys, time
from visolo.cli import main
try:
    main(["--help"])
except SystemExit:
    pass
print(time.process_time(), file=sys.stderr)
heavy = {"numpy", "pydantic", "av", "PIL", "onnxruntime", "torch", "rich"} & set(sys.modules)
assert not heavy, heavy
"""
    spent = []
    for _ in range(5):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        spent.append(float(done.stderr))
    assert "verify" in done.stdout
    assert min(spent) < 0.3
