"""Every format and precision: exported, opened by the runtime, and close enough to PyTorch."""

from __future__ import annotations

import io
import os
import shutil
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from PIL import Image
from torch._inductor.exc import InvalidCxxCompiler

from helpers import Outcome, run_visolo
from skips import OTHER_RUNTIME
from visolo_core.errors import NotHereError, VisoloError
from visolo_export import precision
from visolo_export.calibration import check_frames, record_feeds
from visolo_export.formats import parse_formats, parse_precisions
from visolo_export.precision import nodes_of, to_fp16
from visolo_export.torch_formats import check_compiler
from visolo_runtime.bundle import Bundle
from visolo_runtime.engines.backends import BACKENDS, choose
from visolo_runtime.engines.torch.archive import plain_program
from visolo_runtime.models.shipped import shipped_model, shipped_weights
from visolo_runtime.session.loading import load
from visolo_train.data.synthetic import draw_clip

Visolo = Callable[..., Outcome]
WEIGHTS = shipped_weights()


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated clip of twelve frames, in which the shipped model detects instances."""
    folder = tmp_path_factory.mktemp("frames")
    for number, frame in enumerate(draw_clip(2026, 38, 12, 192, 336).frames):
        Image.fromarray(frame).save(folder / f"{number:02}.png")
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, frames: Path) -> Path:
    """The shipped model in the formats and precisions that a CPU can run."""
    pytest.importorskip("openvino", reason="install visolo[openvino]")
    folder = tmp_path_factory.mktemp("formats") / "lite.visolo"
    run_visolo(
        "export", WEIGHTS, "-o", folder, "--format", "onnx,openvino",
        "--precision", "fp32,fp16,int8", "--calibrate", frames, "--keep", 0,
    ).succeeded()  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def torch_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("formats") / "torch.visolo"
    run_visolo("export", WEIGHTS, "-o", folder, "--format", "torchscript,pt2").succeeded()
    return folder


def verified(bundle: Path, backend: str, precision: str, frames: Path) -> dict[str, object]:
    command = ("verify", bundle, "--reference", WEIGHTS, "--source", frames, "--json")
    outcome = run_visolo(*command, "--backend", backend, "--precision", precision)
    report: dict[str, object] = outcome.succeeded().json()
    return report


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_a_form_is_close_enough(bundle: Path, frames: Path, backend: str, precision: str) -> None:
    """fp32 is the same but for single pixels of an edge; fp16 keeps the tracks, with masks that
    overlap by 0.99; int8 is judged by AP, elsewhere."""
    report = verified(bundle, backend, precision, frames)
    tracks = report["tracks"]
    assert isinstance(tracks, dict)
    assert tracks["reference_tracks"] >= 4
    if precision != "int8":
        assert tracks["min_mask_iou"] >= {"fp32": 0.999, "fp16": 0.99}[precision]
        assert not tracks["unmatched_reference"]
    assert str(report["form"]).endswith(precision)


@pytest.mark.parametrize("format", ["torchscript", "pt2"])
def test_pytorchs_own_formats(torch_bundle: Path, frames: Path, format: str) -> None:
    report = verified(torch_bundle, format, "fp32", frames)
    assert format in str(report["form"])


def rewritten(source: Path, target: Path, change: Callable[[str, bytes], bytes], more: str) -> Path:
    """A copy of an archive with other contents, and perhaps another member."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
        if more:
            new.writestr(more, b"")
    return target


class _Opened:
    """An object that opens a file when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return open, ("/dev/null",)


@pytest.mark.parametrize(
    ("member", "change", "words"),
    [
        ("weights_config.json", (b"{}", b'{"a": {"use_pickle": true}}'), "pickled"),
        ("sample_inputs/model.pt", (), "more than tensors"),
        ("models/model.json", (b'"expr_str": "', b'"expr_str": "x.y'), "not a sum or product"),
        ("", "frame/data/constants/custom_obj_0", "no exported program"),
        ("", "frame/byteorder", "the same name"),
    ],
)
def test_a_program_with_pickles_is_not_opened(
    torch_bundle: Path, tmp_path: Path, member: str, change: Any, words: str
) -> None:
    def changed(name: str, content: bytes) -> bytes:
        if not member or not name.endswith(member):
            return content
        if not change:
            buffer = io.BytesIO()
            torch.save(_Opened(), buffer)
            return buffer.getvalue()
        assert change[0] in content
        return content.replace(*change)

    program = torch_bundle / "pt2" / "decode.pt2"
    more = change.replace("frame", _folder_of(program)) if isinstance(change, str) else ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about two members of the same name
        bad = rewritten(program, tmp_path / "bad.pt2", changed, more)
    with pytest.raises(ValueError, match=words):
        plain_program(bad)
    assert plain_program(program).read(2) == b"PK"
    (tmp_path / "text.pt2").write_text("not a zip")
    with pytest.raises(ValueError, match="not an exported program"):
        plain_program(tmp_path / "text.pt2")


def _folder_of(archive: Path) -> str:
    with zipfile.ZipFile(archive) as opened:
        return opened.namelist()[0].partition("/")[0]


@pytest.mark.slow
def test_compiled_for_this_machine(
    lite_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Machine code runs only if it is named, and only on the processor it was compiled for."""
    try:
        check_compiler()
    except VisoloError as error:
        pytest.skip(str(error))
    bundle = tmp_path / "m.visolo"
    export = ("export", lite_weights, "-o", bundle, "--format", "aotinductor")
    run_visolo(*export, "--precision", "fp32,fp16").succeeded()
    command = ("verify", bundle, "--reference", lite_weights, "--frames", 4, "--backend")
    run_visolo(*command, "aotinductor").succeeded()
    run_visolo(*command, "aotinductor", "--precision", "fp16").succeeded()
    run_visolo(*command, "auto").refused("machine code, name it with --backend")
    monkeypatch.setattr(
        "visolo_runtime.engines.torch.placing.compiled_for", lambda device: "abacus"
    )
    run_visolo(*command, "aotinductor").refused("on abacus", "export --format aotinductor")


def test_without_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise InvalidCxxCompiler

    monkeypatch.setattr("torch._inductor.cpp_builder.get_cpp_compiler", missing)
    command = ("export", WEIGHTS, "-o", tmp_path / "m.visolo", "--format", "aotinductor")
    run_visolo(*command).refused("needs a C++ compiler")


def test_the_best_backend_is_chosen_and_the_others_reported(
    bundle: Path, torch_bundle: Path
) -> None:
    model = load(bundle)
    assert "OpenVINO" in model.engines.description
    assert model.precision == "fp32"  # the first of the export
    assert [each.partition(":")[0] for each in model.passed_over][:2] == [
        "tensorrt",
        "tensorrt-rtx",
    ]
    assert all("has no" in each for each in model.passed_over[:2])
    assert load(bundle, precision="int8").precision == "int8"
    assert "torchscript" in load(torch_bundle).engines.description


def test_a_missing_library_is_passed_over(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    choice = choose(Bundle(bundle), "auto")
    assert "ONNX Runtime" in choice.engines.description
    assert any("openvino: OpenVINO is not usable here" in each for each in choice.passed_over)
    with pytest.raises(NotHereError, match="pip install"):
        load(bundle, "openvino")


@pytest.mark.parametrize("backend", ["onnxruntime-cuda", "onnxruntime-tensorrt"])
def test_a_provider_must_prove_itself(bundle: Path, backend: str) -> None:
    """On a machine without a GPU ONNX Runtime would silently compute on the CPU."""
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip(OTHER_RUNTIME)
    with pytest.raises(NotHereError, match="has no"):
        load(bundle, backend)


def test_damage_is_not_passed_over(bundle: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "copy.visolo"))
    weights = copy / "openvino" / "frame.bin"
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(VisoloError, match=r"openvino/frame.bin.*checksum"):
        load(copy)


def test_forms_that_a_bundle_lacks(bundle: Path, frames: Path) -> None:
    command = ("run", bundle, frames, "--backend")
    run_visolo(*command, "pt2").refused("has no pt2", "--format pt2")
    run_visolo(*command, "tensorrt-rtx", "--precision", "fp16").refused("tensorrt-rtx fp16")
    run_visolo(*command, "onnxruntime", "--precision", "int4").refused("int4")
    assert {each.name for each in BACKENDS} >= {"tensorrt", "openvino", "pt2"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--format", "caffe"), ("'caffe'", "onnx, openvino")),
        (("--format", ""), ("no format",)),
        (("--precision", "fp4"), ("'fp4'", "fp32, fp16, bf16, int8, fp8")),
        (("--precision", "bf16"), ("format onnx has no bf16", "for TensorRT", "fp32, fp16, int8")),
        (("--format", "openvino", "--precision", "fp16,fp8"), ("format openvino has no fp8",)),
        (("--format", "pt2", "--precision", "fp16"), ("pt2 is float32 only",)),
        (("--precision", "int8"), ("--calibrate",)),
        (("--format", "tensorrt-rtx", "--target", "sm99"), ("'sm99'", "sm86")),
        (("--format", "tensorrt-rtx", "--precision", "fp8"), ("fp8 needs frames", "--calibrate")),
        (
            ("--format", "tensorrt-rtx", "--precision", "bf16", "--target", "sm86,sm75"),
            ("bf16 engines need a GPU of sm80 or later, not sm75",),
        ),
        (("--precision", "int8", "--calibrate", "nowhere.mp4"), ("nowhere.mp4",)),
    ],
)
def test_what_cannot_be_exported(
    tmp_path: Path, options: tuple[str, ...], words: tuple[str, ...]
) -> None:
    if "tensorrt-rtx" in options:
        pytest.importorskip("tensorrt_rtx")
    run_visolo("export", WEIGHTS, "-o", tmp_path / "m.visolo", *options).refused(*words)
    assert not list(tmp_path.iterdir())


@pytest.fixture(params=[0, 1, 5])
def few_frames(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, frames: Path
) -> tuple[Path, str]:
    """A folder of too few frames, and what is said of it."""
    folder = tmp_path_factory.mktemp("few")
    for path in sorted(frames.iterdir())[: request.param]:
        shutil.copy(path, folder)
    return folder, f"has {request.param} frames" if request.param else "holds no images"


def test_too_few_frames_to_calibrate(
    few_frames: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is exported before they are counted, which takes minutes with larger networks."""
    monkeypatch.setattr("visolo_export.graph_source.export_graphs", None)
    folder, words = few_frames
    command = ("export", WEIGHTS, "-o", tmp_path / "m.visolo", "--precision", "int8")
    run_visolo(*command, "--calibrate", folder).refused(words)


def test_too_few_frames_are_noticed_while_they_are_recorded(few_frames: tuple[Path, str]) -> None:
    """Those of a pipe are not counted before."""
    folder, words = few_frames
    with pytest.raises(VisoloError, match=words):
        record_feeds(load(shipped_model(), "onnxruntime"), str(folder), 10)


def test_frames_of_a_pipe_are_not_read_to_count_them(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for a writer
    check_frames(str(tmp_path / "pipe"), 10)


def test_names_of_formats() -> None:
    assert parse_formats(["onnx, pt2", "onnx"]) == ["onnx", "pt2"]
    assert parse_precisions(["int8"], ["onnx"]) == ["int8"]
    assert parse_precisions(["bf16,fp8"], ["tensorrt", "tensorrt-rtx"]) == ["bf16", "fp8"]


def test_missing_packages_name_their_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ("export", WEIGHTS, "-o", tmp_path / "m.visolo", "--format")
    monkeypatch.setitem(sys.modules, "openvino", None)
    run_visolo(*command, "openvino").refused("visolo[openvino]")
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    run_visolo(*command, "tensorrt-rtx").refused("visolo[rtx]")
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    run_visolo(*command, "tensorrt").refused("visolo-gpu[gpu]")


def test_no_round_trips_and_what_stays_float32(tmp_path: Path) -> None:
    """Nothing is cast to float16 and straight back, and a named module keeps float32 weights."""
    source = shipped_model() / "frame.onnx"
    plain, mixed = tmp_path / "plain.onnx", tmp_path / "mixed.onnx"
    to_fp16(source, plain)
    to_fp16(source, mixed, ["backbone.layer1", "tracking_branch"])
    for file in (plain, mixed):
        graph = onnx.load(file).graph
        casts = {node.output[0]: node for node in graph.node if node.op_type == "Cast"}
        twice = [node for node in casts.values() if node.input[0] in casts]
        assert not twice, file
    named = nodes_of(onnx.load(source).graph, ["backbone.layer1", "tracking_branch"])
    assert 20 < len(named) < 150
    types = [convolution_types(file, named) for file in (plain, mixed)]
    assert types[0] == {onnx.TensorProto.FLOAT16}
    assert types[1] == {onnx.TensorProto.FLOAT}
    assert onnx.TensorProto.FLOAT16 in convolution_types(mixed, precision.convolutions(mixed))


def convolution_types(file: Path, names: list[str]) -> set[int]:
    """Types of the weights of named convolutions."""
    graph = onnx.load(file).graph
    weights = {tensor.name: tensor.data_type for tensor in graph.initializer}
    return {
        weights[node.input[1]]
        for node in graph.node
        if node.op_type == "Conv" and node.name in names
    }


def test_a_module_that_does_not_exist(tmp_path: Path) -> None:
    command = ("export", WEIGHTS, "-o", tmp_path / "m.visolo", "--precision", "fp16")
    run_visolo(*command, "--float32", "backbone.layer9").refused("no module 'backbone.layer9'")
