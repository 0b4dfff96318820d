"""The network's two entry points agree, and its parts do what they say."""

from __future__ import annotations

import pytest
import torch

from helpers import TINY
from untrained import untrained
from visolo_core.memory_policy import EMPTY
from visolo_core.nn import Visolo
from visolo_core.nn.backbone import Backbone, fold_batch_norms
from visolo_core.nn.memory import Memory


@pytest.fixture(scope="module")
def model() -> Visolo:
    return untrained(TINY)


@pytest.fixture(scope="module")
def clip() -> torch.Tensor:
    return torch.randint(
        0, 256, (2, 3, 3, 64, 96), generator=torch.Generator().manual_seed(1)
    ).float()


@torch.inference_mode()
def test_shapes_of_a_clip(model: Visolo, clip: torch.Tensor) -> None:
    output = model(clip)
    assert output.mask_features.shape == (2, 3, 16, 16, 24)
    assert output.kernels.shape == (2, 3, 16, 24)
    assert output.class_logits.shape == (2, 3, 3, 24)
    assert output.match_logits.shape == (2, 3, 24, 24)


@torch.inference_mode()
def test_the_clip_entry_agrees_with_the_step_entry(model: Visolo, clip: torch.Tensor) -> None:
    """The last frame of a clip of three reads the two before it in both, batched or not."""
    whole = model(clip)
    state = model.begin(slots=4, batch=2)
    for frame in range(3):
        output, state = model.step(clip[:, frame], state)
    assert state.slots == (0, 1, 2, EMPTY)
    assert torch.allclose(output.scores, whole.class_logits[:, 2].sigmoid(), atol=1e-5)
    assert torch.allclose(output.kernels, whole.kernels[:, 2], atol=1e-4)
    alone, _ = model.step(clip[1:, 0], model.begin(slots=4))
    both, _ = model.step(clip[:, 0], model.begin(slots=4, batch=2))
    assert torch.allclose(alone.scores[0], both.scores[1], atol=1e-5)


@torch.inference_mode()
def test_match_logits_are_query_times_key_of_each_pair(model: Visolo, clip: torch.Tensor) -> None:
    whole = model(clip)
    first, last = model.encode(clip[:, 0]), model.encode(clip[:, 2])
    expected = first.query.transpose(1, 2) @ last.key
    assert torch.allclose(whole.match_logits[:, 1], expected, atol=1e-3)  # pairs 01, 02, 12


@torch.inference_mode()
def test_a_step_leaves_its_state_alone(model: Visolo, clip: torch.Tensor) -> None:
    _, state = model.step(clip[:, 0], model.begin(slots=2, batch=2))
    before = state.key.clone(), state.value.clone()
    model.step(clip[:, 1], state)
    assert torch.equal(state.key, before[0])
    assert torch.equal(state.value, before[1])


@torch.inference_mode()
def test_empty_slots_are_not_read() -> None:
    generator = torch.Generator().manual_seed(2)
    query = torch.randn(1, 8, 24, generator=generator)
    keys = torch.randn(1, 3, 8, 24, generator=generator)
    values = torch.randn(1, 3, 2, 16, 24, generator=generator)
    one = Memory.read(query, keys[:, :1], values[:, :1], torch.tensor([[True]]))
    same = Memory.read(query, keys, values, torch.tensor([[True, False, False]]))
    zeros = Memory.read(
        query,
        torch.cat([keys[:, :1], torch.zeros(1, 2, 8, 24)], 1),
        torch.cat([values[:, :1], torch.zeros(1, 2, 2, 16, 24)], 1),
        torch.tensor([[True, True, True]]),
    )
    assert torch.allclose(one, same, atol=1e-6)
    assert not torch.allclose(one, zeros, atol=1e-2)  # padding with zeros would be wrong


@torch.inference_mode()
def test_without_slots_every_frame_reads_itself(model: Visolo, clip: torch.Tensor) -> None:
    state = model.begin(slots=0, batch=2)
    first, state = model.step(clip[:, 0], state)
    again, state = model.step(clip[:, 0], state)
    assert torch.equal(first.scores, again.scores)
    assert state.next_frame == 2


@pytest.mark.parametrize(
    ("name", "width", "norm"),
    [("resnet18", 32, "batch"), ("resnet18", 64, "frozen"), ("resnet50", 64, "frozen")],
)
@torch.inference_mode()
def test_folding_batch_norms_changes_nothing_but_the_operations(
    name: str, width: int, norm: str
) -> None:
    backbone = Backbone(name, width, norm).eval()
    generator = torch.Generator().manual_seed(3)
    for key, tensor in [*backbone.named_buffers(), *backbone.named_parameters()]:
        if "tracked" in key:
            continue
        if "running" in key or "bn" in key or "downsample.1" in key:
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    image = torch.randn(1, 3, 64, 96, generator=generator)
    folded = fold_batch_norms(backbone)
    assert not any("BatchNorm" in type(part).__name__ for part in folded.modules())
    for before, after in zip(backbone(image), folded(image), strict=True):
        assert torch.allclose(before, after, rtol=1e-4, atol=1e-4 * float(before.abs().max()))


def test_backbone_takes_torchvision_weights() -> None:
    import torchvision

    for name in ("resnet18", "resnet50"):
        theirs = getattr(torchvision.models, name)().state_dict()
        ours = Backbone(name).state_dict()
        wanted = {key for key in theirs if not key.endswith("num_batches_tracked")}
        assert set(ours) == {key for key in wanted if not key.startswith(("layer4", "fc"))}
        assert all(ours[key].shape == theirs[key].shape for key in ours)


def test_gradients_reach_every_trainable_parameter(clip: torch.Tensor) -> None:
    model = untrained(TINY)
    output = model(clip)
    loss = sum((part**2).mean() for part in output)
    assert isinstance(loss, torch.Tensor)
    loss.backward()  # type: ignore[no-untyped-call]
    silent = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.abs().sum() > 0
    ]
    assert silent == []
