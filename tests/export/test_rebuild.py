"""``visolo rebuild``: new engines from a bundle's own ONNX graphs, or the bundle as it was."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from helpers import Outcome, run_visolo
from visolo_core.errors import VisoloError
from visolo_export.tensorrt_build import BuiltEngine, TensorRt
from visolo_runtime.bundle import Bundle, Manifest
from visolo_runtime.video.sample_clip import sample_frames

pytest.importorskip("tensorrt_rtx", reason="install visolo[rtx]")
RTX = ("--format", "tensorrt-rtx")
Visolo = Callable[..., Outcome]


@pytest.fixture(scope="module")
def exported(lite_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ONNX graphs and engines for one GPU."""
    folder = tmp_path_factory.mktemp("rebuild") / "model.visolo"
    run_visolo(
        "export", lite_weights, "-o", folder, "--format", "onnx,tensorrt-rtx", "--target", "sm86"
    ).succeeded()
    return folder


@pytest.fixture
def bundle(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "model.visolo"))


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_engines_for_other_gpus(bundle: Path, lite_weights: Path, visolo: Visolo) -> None:
    visolo("verify", bundle, "--reference", lite_weights, "--frames", 2, "--record").succeeded()
    before = contents(bundle)
    outcome = visolo("rebuild", bundle, *RTX, "--target", "sm86,sm89").succeeded()
    assert "for sm86, sm89" in outcome.err
    rebuilt = Bundle(bundle)
    rebuilt.check_files()
    engines = rebuilt.graphs("tensorrt-rtx")
    assert engines.targets == ["sm86", "sm89"]
    for name in engines.extra:
        assert json.loads((bundle / name).read_text())["targets"] == ["sm86", "sm89"]
    assert rebuilt.manifest.parity is None
    # The other graphs are untouched, the old engines are gone, and no stray file is left.
    after = contents(bundle)
    assert {name: after[name] for name in after if name.endswith(".onnx")} == {
        name: before[name] for name in before if name.endswith(".onnx")
    }
    assert set(after) == {"manifest.json", *rebuilt.manifest.files}
    assert len(after) == len(before)


def test_again_and_again(bundle: Path, visolo: Visolo) -> None:
    """Neither names nor files pile up."""
    for _ in range(2):
        visolo("rebuild", bundle, *RTX, "--target", "sm86").succeeded()
    assert {path.name for path in bundle.iterdir() if path.is_dir()} == {"tensorrt-rtx"}


def test_a_bundle_without_engines_gets_them(
    bundle: Path, lite_weights: Path, visolo: Visolo
) -> None:
    """All else stays as it is, with the figures of its last verification."""
    without_engines(bundle)
    visolo("verify", bundle, "--reference", lite_weights, "--frames", 2, "--record").succeeded()
    before, manifest = contents(bundle), Bundle(bundle).manifest
    visolo("rebuild", bundle, *RTX, "--target", "sm86").succeeded()
    grown = Bundle(bundle)
    grown.check_files()
    engines = grown.graphs("tensorrt-rtx")
    assert (engines.precision, engines.targets) == ("fp32", ["sm86"])
    assert engines.pixels.keys() == grown.graphs("onnx").pixels.keys()
    assert grown.manifest.graphs == [*manifest.graphs, engines]
    assert grown.manifest.parity == manifest.parity
    assert grown.manifest.parity is not None
    after = contents(bundle)
    assert set(after) == {*before, *engines.all_files}
    assert {name: after[name] for name in before if name != "manifest.json"} == {
        name: data for name, data in before.items() if name != "manifest.json"
    }


def test_engines_of_another_precision_are_added(bundle: Path, visolo: Visolo) -> None:
    visolo("rebuild", bundle, *RTX, "--precision", "bf16", "--target", "sm86").succeeded()
    present = [(each.format, each.precision) for each in Bundle(bundle).manifest.graphs]
    assert present == [("onnx", "fp32"), ("tensorrt-rtx", "fp32"), ("tensorrt-rtx", "bf16")]


def test_what_has_no_engines_names_the_command(bundle: Path, visolo: Visolo) -> None:
    without_engines(bundle)
    visolo("bench", bundle, "--backend", "tensorrt-rtx").refused(
        "has no tensorrt-rtx graphs", f"run visolo rebuild {bundle} --format tensorrt-rtx"
    )


def without_engines(bundle: Path) -> None:
    """Take the engines out of a bundle."""

    def change(manifest: dict[str, Any]) -> None:
        manifest["graphs"].pop(1)
        files = manifest["files"]
        for name in [name for name in files if name.startswith("tensorrt-rtx/")]:
            del files[name]

    rewrite_manifest(bundle, change)
    shutil.rmtree(bundle / "tensorrt-rtx")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--format", "onnx"), ("format 'onnx' has no engines", "tensorrt-rtx")),
        ((*RTX, "--precision", "fp16"), ("has no onnx fp16 graphs", "--precision fp16")),
        ((*RTX, "--precision", "fp12"), ("precision 'fp12' is unknown", "bf16")),
        ((*RTX, "--precision", "fp8"), ("cannot be built", "has no fp8 graphs", "--calibrate")),
        ((*RTX, "--target", "sm1"), ("target 'sm1' is unknown", "sm86")),
    ],
)
def test_what_is_refused(
    bundle: Path, arguments: tuple[str, ...], words: tuple[str, ...], visolo: Visolo
) -> None:
    before = contents(bundle)
    visolo("rebuild", bundle, *arguments).refused(*words)
    assert contents(bundle) == before


def rewrite_manifest(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    change(manifest)
    (bundle / "manifest.json").write_text(json.dumps(manifest))


def test_tensorrt_takes_no_targets(bundle: Path, visolo: Visolo) -> None:
    rewrite_manifest(bundle, lambda manifest: manifest["graphs"][1].update(format="tensorrt"))
    command = ("rebuild", bundle, "--format", "tensorrt", "--target", "sm86")
    visolo(*command).refused("leave --target out")


@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_quantised_engines_are_refused(bundle: Path, precision: str, visolo: Visolo) -> None:
    rewrite_manifest(bundle, lambda manifest: manifest["graphs"][1].update(precision=precision))
    visolo("rebuild", bundle, *RTX).refused(f"has no {precision} graphs", "--calibrate")


def test_bf16_engines_are_rebuilt_from_float32_graphs(bundle: Path, visolo: Visolo) -> None:
    """ONNX graphs for CPUs have no bf16. Modules that were exported in float32 stay float32."""

    def change(manifest: dict[str, Any]) -> None:
        manifest["graphs"][1].update(precision="bf16")
        manifest["float32_modules"] = ["backbone.layer2"]

    rewrite_manifest(bundle, change)
    visolo("rebuild", bundle, *RTX, "--target", "sm75").refused("bf16 engines need a GPU of sm80")
    visolo("rebuild", bundle, *RTX, "--target", "sm86").succeeded()
    folder = bundle / "tensorrt-rtx-bf16"
    layers = json.loads((folder / "frame.json").read_text())["layers"]
    written = {
        each for layer in layers if layer["kind"] == "correlation" for each in layer["writes"]
    }
    assert written == {"BFloat16", "Float"}
    assert not list(folder.glob("*.onnx"))


def test_without_onnx_graphs(bundle: Path, visolo: Visolo) -> None:
    rewrite_manifest(bundle, lambda manifest: manifest["graphs"].pop(0))
    visolo("rebuild", bundle, *RTX, "--target", "sm86").refused("no onnx fp32 graphs")


def test_a_changed_onnx_graph(bundle: Path, visolo: Visolo) -> None:
    (bundle / "memory.onnx").write_bytes(b"")
    before = contents(bundle)
    visolo("rebuild", bundle, *RTX, "--target", "sm86").refused("memory.onnx", "checksum")
    assert contents(bundle) == before


def test_a_graph_that_cannot_be_built_leaves_the_bundle_as_it_was(
    bundle: Path, visolo: Visolo, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = TensorRt.build

    def fail_on_decode(library: TensorRt, file: Path, *arguments: Any) -> BuiltEngine:
        if file.stem == "decode":
            raise VisoloError("no decode engine today")
        return build(library, file, *arguments)

    monkeypatch.setattr(TensorRt, "build", fail_on_decode)
    before = contents(bundle)
    visolo("rebuild", bundle, *RTX, "--target", "sm86").refused("no decode engine today")
    assert contents(bundle) == before
    assert [path.name for path in bundle.iterdir() if path.is_dir()] == ["tensorrt-rtx"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_manifest_that_cannot_be_written_leaves_the_bundle_as_it_was(
    bundle: Path, error: BaseException, visolo: Visolo, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(manifest: Manifest, folder: Path) -> None:
        raise error

    monkeypatch.setattr(Manifest, "write", fail)
    before = contents(bundle)
    outcome = visolo("rebuild", bundle, *RTX, "--target", "sm86")
    assert outcome.status != 0
    assert "no space left" in outcome.err or isinstance(error, KeyboardInterrupt)
    assert contents(bundle) == before
    assert [path.name for path in bundle.iterdir() if path.is_dir()] == ["tensorrt-rtx"]


def test_a_run_leaves_the_bundle_alone(bundle: Path, tmp_path: Path, visolo: Visolo) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    for number, frame in enumerate(sample_frames(2)):
        Image.fromarray(frame).save(frames / f"{number}.png")
    before = contents(bundle)
    visolo("run", bundle, frames, "--results", tmp_path / "results.json").succeeded()
    assert contents(bundle) == before
