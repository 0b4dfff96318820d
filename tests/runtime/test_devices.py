"""``--device``: what it accepts, which backends have such a device, and what is said otherwise."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers import Outcome
from visolo_core.errors import NotHereError, VisoloError
from visolo_runtime.bundle import Bundle
from visolo_runtime.engines import backends
from visolo_runtime.engines.backends import BACKENDS, Placement, choose
from visolo_runtime.engines.device_name import DeviceName, parse_device
from visolo_runtime.engines.torch.graph_files import _move_constants, load_graph
from visolo_runtime.engines.torch.placing import check_compiled, torch_device
from visolo_runtime.models.shipped import shipped_model, shipped_weights
from visolo_runtime.session.loading import load

Visolo = Callable[..., Outcome]
WEIGHTS = shipped_weights()


@pytest.fixture
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.parametrize(
    "text", ["gpu", "cuda:", "cuda:x", "cuda:-1", "CUDA", "cpu:0", "cuda:1 ", "٣"]
)
def test_what_is_no_device(text: str) -> None:
    with pytest.raises(VisoloError, match="choose cpu, cuda or cuda:N"):
        parse_device(text)


@pytest.mark.parametrize(
    "command",
    [
        "run model.visolo video.mp4 --device gpu",
        "bench model.visolo --device gpu",
        "bench model.visolo --against-device gpu",
        "eval model.visolo --data data.json --device gpu",
        "verify model.visolo --reference model.safetensors --device gpu",
        "verify model.visolo --reference model.safetensors --reference-device gpu",
        "demo -o demo --device gpu",
        "export model.safetensors -o model.visolo --format aotinductor --device gpu",
    ],
)
def test_every_command_refuses_what_is_no_device(command: str, visolo: Visolo) -> None:
    """Before it looks for any file."""
    visolo(*command.split()).refused("device 'gpu' is unknown: choose cpu, cuda or cuda:N")


def test_a_backend_that_has_no_such_device(visolo: Visolo) -> None:
    command = ("verify", shipped_model(), "--reference", shipped_model(), "--backend")
    visolo(*command, "openvino", "--device", "cuda:1").refused(
        "openvino does not run on cuda:1", "tensorrt, tensorrt-rtx, onnxruntime-tensorrt"
    )
    visolo(*command, "tensorrt", "--device", "cpu").refused(
        "tensorrt does not run on cpu", "openvino, onnxruntime, torchscript"
    )


def test_auto_passes_over_backends_that_have_no_such_device() -> None:
    choice = choose(Bundle(shipped_model()), "auto", device="cpu")
    assert "tensorrt: it does not run on cpu" in choice.passed_over
    with pytest.raises(VisoloError, match="openvino: it does not run on cuda:0") as caught:
        choose(Bundle(shipped_model()), "auto", device="cuda")
    assert "onnxruntime-cuda: " in str(caught.value)


def test_every_backend_is_given_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not another than what was asked for."""
    for spec in BACKENDS:
        for device in spec.devices:
            given: list[Placement] = []

            def note(bundle: object, graphs: object, placement: Placement) -> None:
                given.append(placement)  # noqa: B023 - called in this turn

            spied = backends.BackendSpec(spec.name, ("onnx",), note, spec.devices)  # type: ignore[arg-type]
            monkeypatch.setattr(backends, "BACKENDS", (spied,))
            name = device if device == "cpu" else "cuda:1"
            choose(Bundle(shipped_model()), spec.name, device=name, threads=2)
            assert given == [Placement(2, parse_device(name))]


def test_the_index_reaches_libraries_for_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def refuse(*arguments: object) -> None:
        asked.append(int(str(arguments[3])))
        raise NotHereError("not here")

    monkeypatch.setattr("visolo_runtime.engines.tensorrt.backend.open_tensorrt", refuse)
    monkeypatch.setattr("visolo_runtime.engines.onnxruntime.gpu_backend.open_on_gpu", refuse)
    for spec in BACKENDS:
        if spec.devices == ("cuda",):
            bundle = Bundle(shipped_model())
            with pytest.raises(NotHereError):
                spec.open(bundle, bundle.manifest.graphs[0], Placement(0, DeviceName("cuda", 3)))
    assert asked == [3, 3, 3, 3]


@pytest.mark.usefixtures("_no_gpu")
def test_pytorch_without_a_gpu(visolo: Visolo, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ("verify", WEIGHTS, "--reference", WEIGHTS, "--backend", "torch")
    visolo(*command, "--device", "cuda").refused("there is no cuda:0", "finds 0 GPUs")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert torch_device(DeviceName("cuda", 1)) == torch.device("cuda:1")
    with pytest.raises(NotHereError, match=r"there is no cuda:2: PyTorch .* finds 2 GPUs"):
        torch_device(DeviceName("cuda", 2))
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(NotHereError, match="for CPUs only, so there is no cuda:0"):
        torch_device(DeviceName("cuda"))


def test_a_driver_that_pytorch_warns_of(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_old() -> bool:
        warnings.warn("The NVIDIA driver on your system\nis too old", stacklevel=1)
        return False

    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", too_old)
    with pytest.raises(NotHereError, match=r"\(The NVIDIA driver on your system is too old\)"):
        torch_device(DeviceName("cuda"))


@pytest.mark.usefixtures("_no_gpu")
def test_compiling_for_a_gpu_that_is_not_here(tmp_path: Path, visolo: Visolo) -> None:
    """Said before anything is exported, and nothing is left behind."""
    command = ("export", WEIGHTS, "-o", tmp_path / "m.visolo", "--device", "cuda")
    visolo(*command, "--format", "aotinductor,onnx").refused("there is no cuda:0")
    visolo(*command, "--format", "onnx").refused("leave --device out, or add --format aotinductor")
    assert not list(tmp_path.iterdir())


def test_code_for_a_gpu_runs_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    (plain,) = Bundle(shipped_model()).manifest.graphs
    graphs = plain.model_copy(
        update={"format": "aotinductor", "library": torch.__version__, "targets": ["cuda sm90"]}
    )
    with pytest.raises(NotHereError, match="compiled for cuda sm90, not for cpu: leave --device"):
        check_compiled(graphs, DeviceName("cpu"))
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    check_compiled(graphs, DeviceName("cuda"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 6))
    with pytest.raises(NotHereError, match=r"on cuda sm86: run visolo export .* --device cuda"):
        check_compiled(graphs, DeviceName("cuda"))


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_weights_in_a_precision_that_the_cpu_has_not(precision: str) -> None:
    with pytest.raises(VisoloError, match=f"on cpu in fp32 only, not in {precision}"):
        load(WEIGHTS, "torch", precision=precision)


def test_verifying_weights(visolo: Visolo, lite_weights: Path, lite_bundle: Path) -> None:
    """PyTorch on one device against another; on the CPU alone, against itself."""
    command = ("verify", lite_weights, "--reference", lite_weights, "--frames", 2, "--json")
    report = visolo(*command, "--backend", "torch", "--device", "cpu").succeeded().json()
    assert report["tensors"]["mask"]["mask_features"]["absolute"] == 0
    visolo(*command, "--record").refused("holds weights: --bisect and --record are for bundles")
    visolo(*command, "--bisect").refused("holds weights: --bisect and --record are for bundles")
    visolo("verify", lite_weights, "--reference", shipped_model()).refused(
        "holds another network than the weights"
    )
    assert "parity" not in Bundle(lite_bundle).manifest.model_dump(exclude_none=True)


def test_programs_are_moved_to_their_device(batched_bundle: Path) -> None:
    """What the exporter noted of its own device would mix CPU and GPU: every tensor that a program
    creates is on the device that it is loaded for."""
    bundle = Bundle(batched_bundle)
    spec = bundle.manifest.contract["frame"]
    inputs = [
        torch.zeros(each.sized({"B": 2}), dtype=getattr(torch, each.dtype), device="meta")
        for each in spec.inputs
    ]
    program = load_graph("pt2", bundle.graph_files("pt2")["frame"], torch.device("meta"))
    assert {each.device.type for each in program(*inputs)} == {"meta"}


def test_scripts_are_moved_to_their_device(batched_bundle: Path) -> None:
    file = Bundle(batched_bundle).graph_files("torchscript")["frame"]
    script = load_graph("torchscript", file, torch.device("cpu"))
    graph = script.graph  # type: ignore[attr-defined]
    created = list(graph.findAllNodes("aten::linspace"))
    assert created  # or nothing is tested
    assert {'"cpu"' in each for each in devices_of(created)} == {True}
    _move_constants(graph, torch.device("cuda", 1))
    assert {'"cuda:1"' in each for each in devices_of(created)} == {True}


def devices_of(nodes: list[Any]) -> list[str]:
    """The devices on which nodes of a script create their tensors, as the script has them."""
    sources = [str(each.node()) for node in nodes for each in node.inputs()]
    return [each for each in sources if "Device = " in each]
