"""Float32 without TF32, and networks in float16."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from helpers import TINY
from untrained import untrained
from visolo_core.contract import GraphName, contract
from visolo_core.nn.graphs import graph_modules
from visolo_runtime.engines.torch.placing import modules_on
from visolo_runtime.engines.torch.precision import HALF_MODULES, exact_float32, in_half

CPU = torch.device("cpu")


def settings() -> tuple[str, str]:
    matmul: Any = torch.backends.cuda.matmul
    conv: Any = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    return matmul.fp32_precision, conv.fp32_precision


def test_float32_means_float32() -> None:
    """And the user's own settings come back, also those of the older interface."""
    before = settings()
    with exact_float32():
        assert settings() == ("ieee", "ieee")
        with exact_float32():
            pass
        assert settings() == ("ieee", "ieee")
    assert settings() == before
    allowed = torch.backends.cudnn.allow_tf32
    with pytest.raises(ZeroDivisionError), exact_float32():
        raise ZeroDivisionError
    assert settings() == before
    assert torch.backends.cudnn.allow_tf32 == allowed


def test_the_last_thread_to_leave_restores() -> None:
    before, inside, leave = settings(), threading.Event(), threading.Event()

    def stay() -> None:
        with exact_float32():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=stay)
    with exact_float32():
        thread.start()
        assert inside.wait(10)
    assert settings() == ("ieee", "ieee")
    leave.set()
    thread.join()
    assert settings() == before


def images(module: GraphName) -> tuple[Tensor, ...]:
    spec = contract(TINY, slots=2)[module]
    generator = torch.Generator().manual_seed(0)
    return tuple(
        torch.randint(0, 255, each.sized(), dtype=torch.uint8, generator=generator)
        if each.dtype == "uint8"
        else torch.ones(each.sized(), dtype=torch.bool)
        if each.dtype == "bool"
        else torch.randn(each.sized(), generator=generator)
        for each in spec.inputs
    )


@pytest.mark.parametrize("graph", ["frame", "mask", "memory"])
def test_half_is_close_and_float32_outside(graph: GraphName) -> None:
    """As far as ``visolo verify`` lets fp16 go: 11 bits through twenty layers."""
    network = untrained(TINY)
    plain, half = graph_modules(network)[graph], modules_on(network, CPU, half=True)[graph]
    with torch.inference_mode():
        expected, actual = plain(*images(graph)), half(*images(graph))
    if isinstance(expected, Tensor):
        expected, actual = (expected,), (actual,)
    names = contract(TINY, 2)[graph].names("outputs")
    for name, first, second in zip(names, expected, actual, strict=True):
        assert first.dtype == second.dtype, name
        if not name.startswith("c"):  # of the best cells: two alike may change places
            assert (first - second).abs().max() < 0.05 * first.abs().max(), name
            assert not torch.equal(first, second), f"{name} is not computed in float16"


def convolutions(network: nn.Module) -> dict[str, torch.dtype]:
    return {
        name.replace("module.", ""): module.weight.dtype
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d)
    }


@pytest.mark.parametrize(("backbone", "width"), [("resnet18", 16), ("mobilenet_v2", 32)])
def test_every_convolution_is_half_and_nothing_else(backbone: str, width: int) -> None:
    network = in_half(untrained(replace(TINY, backbone=backbone, backbone_width=width)), CPU)
    assert set(convolutions(network).values()) == {torch.float16}
    others = {
        name: parameter.dtype
        for name, parameter in network.named_parameters()
        if parameter.dim() == 1 and ".norm." in name
    }
    assert set(others.values()) == {torch.float32}


@pytest.mark.parametrize(
    "kept",
    [
        ["backbone.layer1"], ["mask_branch"], ["category_branch"],
        ["backbone", "mask_branch.refine2"], ["backbone.layer1", "backbone.layer1.0"],
    ],
    ids=", ".join,
)  # fmt: skip
def test_modules_that_stay_float32(kept: list[str]) -> None:
    network = untrained(TINY)
    graphs = modules_on(network, CPU, half=True, float32_modules=kept)
    found = convolutions(graphs["frame"]) | convolutions(graphs["mask"])
    for name, dtype in found.items():
        path = name.removeprefix("model.")
        stays = any(f"{path}.".startswith(f"{each}.") for each in kept)
        assert (dtype == torch.float32) == stays, name
    with torch.inference_mode():
        graphs["frame"](*images("frame"))
        graphs["mask"](*images("mask"))


def test_the_memory_is_read_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its products become exponents."""
    network = untrained(TINY)
    read, types = network.memory.read, set[torch.dtype]()

    def noted(*tensors: Tensor) -> Tensor:
        types.update(each.dtype for each in tensors)
        assert not torch.is_autocast_enabled("cpu")
        return read(*tensors)

    half = in_half(network, CPU)
    monkeypatch.setattr(half.memory, "read", noted)
    with torch.inference_mode():
        graph_modules(half)["frame"](*images("frame"))
    assert types == {torch.float32, torch.bool}


def test_the_listed_modules_hold_all_convolutions() -> None:
    names = convolutions(untrained(TINY))
    assert all(any(name.startswith(each) for each in HALF_MODULES) for name in names)
