"""MobileNetV2 as a trunk: torchvision's network, cut off."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import MobileNetV2 as MobileNetClassifier
from torchvision.models import mobilenet_v2

from helpers import TINY
from visolo_core.config import MOBILENETS, ModelConfig
from visolo_core.errors import VisoloError
from visolo_core.nn import Visolo
from visolo_core.nn.backbone import build_backbone, fold_batch_norms
from visolo_core.nn.mobilenet import OUTPUTS, MobileNetV2


@torch.no_grad()
def classifier() -> MobileNetClassifier:
    """Torchvision's, with norms that do something."""
    torch.manual_seed(4)
    model: MobileNetClassifier = mobilenet_v2().eval()
    for name, tensor in model.state_dict().items():
        if "running" in name or (tensor.ndim == 1 and "classifier" not in name):
            tensor.copy_(torch.rand(tensor.shape) + 0.5)
    return model


def cut_off(norm: str, source: MobileNetClassifier, backbone: str = "mobilenet_v2") -> MobileNetV2:
    """Our trunk with torchvision's weights, by name."""
    trunk = build_backbone(backbone, 32, norm).eval()
    assert isinstance(trunk, MobileNetV2)
    theirs = {**trunk.state_dict(), **source.state_dict()}
    trunk.load_state_dict({name: theirs[name] for name in trunk.state_dict()})
    return trunk


def close(first: Tensor, second: Tensor) -> bool:
    return torch.allclose(first, second, rtol=1e-4, atol=1e-4 * float(second.abs().max()))


@pytest.mark.parametrize("norm", ["frozen", "batch"])
@torch.inference_mode()
def test_it_computes_what_torchvision_does(norm: str) -> None:
    source = classifier()
    image = torch.randn(2, 3, 64, 96)
    outputs = cut_off(norm, source)(image)
    features = image
    for number, block in enumerate(source.features):
        features = block(features)
        if number in OUTPUTS:
            assert close(outputs[OUTPUTS.index(number)], features)
    strides = [(96 // each.shape[3], each.shape[1]) for each in outputs]
    assert strides == [(4, 24), (8, 32), (16, 96)]


@pytest.mark.parametrize("size", [(64, 96), (48, 80)])
@torch.inference_mode()
def test_a_pyramid_adds_what_stride_32_sees(size: tuple[int, int]) -> None:
    source = classifier()
    image = torch.randn(2, 3, *size)
    plain = cut_off("frozen", source)(image)
    trunk = cut_off("frozen", source, "mobilenet_v2_fpn")
    assert all(map(torch.equal, trunk(image), plain))  # until it has learnt something
    assert trunk.lateral is not None
    trunk.lateral.weight.copy_(torch.eye(96, 160)[..., None, None])
    res2, res3, res4 = trunk(image)
    assert torch.equal(res2, plain[0])
    assert torch.equal(res3, plain[1])
    deep = source.features[:17](image)
    assert deep.shape == (2, 160, *(-(-each // 32) for each in size))
    deep = F.interpolate(deep[:, :96], res4.shape[-2:], mode="bilinear", align_corners=False)
    assert close(res4 - plain[2], deep)


@pytest.mark.parametrize("norm", ["frozen", "batch"])
@torch.inference_mode()
def test_folding_changes_nothing_but_the_operations(norm: str) -> None:
    trunk = cut_off(norm, classifier(), "mobilenet_v2_fpn")
    folded = fold_batch_norms(trunk)
    assert not any("BatchNorm" in type(part).__name__ for part in folded.modules())
    image = torch.randn(1, 3, 64, 96)
    for before, after in zip(trunk(image), folded(image), strict=True):
        assert close(after, before)


def test_frozen_norms_give_the_gradients_of_the_norms_own_code() -> None:
    """The trunk applies frozen norms to the weights; the gradients are those of the plain form."""
    trunk = cut_off("frozen", classifier())
    plain = nn.Sequential(*classifier().features[:14])
    image = torch.randn(1, 3, 64, 96)
    trunk(image)[2].square().mean().backward()
    plain.eval()(image).square().mean().backward()
    for (name, ours), theirs in zip(
        ((n, p) for n, p in trunk.named_parameters()),
        (p for n, p in plain.named_parameters() if p.ndim == 4),
        strict=True,
    ):
        assert ours.grad is not None
        assert theirs.grad is not None
        assert close(ours.grad, theirs.grad), name


@pytest.mark.parametrize("backbone", MOBILENETS)
def test_a_network_runs_on_it_in_training_and_frame_by_frame(backbone: str) -> None:
    config = replace(TINY, backbone=backbone, backbone_width=32)
    model = Visolo(config)
    clip = torch.rand(1, 2, 3, *config.input_size) * 255
    output = model.train()(clip)
    assert output.mask_features.shape[-2:] == config.mask_size
    frame, _ = model.eval().step(clip[:, 0], model.begin(slots=1))
    assert frame.scores.shape == (1, config.classes, config.cells)


def test_its_width_cannot_be_chosen() -> None:
    with pytest.raises(VisoloError, match="set backbone_width to 32"):
        ModelConfig(backbone="mobilenet_v2")
