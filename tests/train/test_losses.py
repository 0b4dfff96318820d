"""Targets, losses and gradients of a training step are the official code's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from golden_recipe import draw_masks, draw_video, draw_weights
from visolo_core.config import PAPER
from visolo_core.nn import ClipOutput, Visolo
from visolo_core.nn.checkpoint import expected_shapes
from visolo_core.nn.official_names import official_name
from visolo_train.learning.losses import (
    ClipTargets,
    Losses,
    category_sum,
    clip_losses,
    dice,
    focal,
    loss_counts,
    mask_sum,
    tracking_sum,
)
from visolo_train.learning.targets import assign_cells

GOLDEN = Path(__file__).parents[1] / "golden"
PAIRS = ((0, 1), (0, 2), (1, 2))


@pytest.fixture(scope="module")
def facts() -> dict[str, Any]:
    return dict(json.loads((GOLDEN / "train.json").read_text()))


@pytest.fixture(scope="module")
def stored() -> dict[str, Any]:
    return dict(np.load(GOLDEN / "train.npz"))


@pytest.fixture(scope="module")
def targets(facts: dict[str, Any]) -> ClipTargets:
    masks = tuple(
        torch.stack([torch.from_numpy(draw_masks(clip["video"], t, 352, 624)) for t in clip["t"]])
        for clip in facts["clips"]
    )
    owner = torch.stack([assign_cells(each, PAPER.grid, "official") for each in masks])
    classes = tuple(torch.tensor(clip["classes"]) for clip in facts["clips"])
    return ClipTargets(owner, classes, masks)


def test_targets(facts: dict[str, Any], stored: dict[str, Any], targets: ClipTargets) -> None:
    classes = set()
    for clip, frame, cell in (targets.owner >= 0).nonzero().tolist():
        category = facts["clips"][clip]["classes"][targets.owner[clip, frame, cell]]
        classes.add((clip, category, frame, *divmod(cell, PAPER.grid[1])))
    assert classes == set(map(tuple, stored["GT_classes_nonzero"].tolist()))

    matches = set()
    for number, (first, last) in enumerate(PAIRS):
        earlier, later = targets.owner[:, first, :, None], targets.owner[:, last, None, :]
        same = ((earlier == later) & (earlier >= 0)).nonzero().tolist()
        matches |= {(clip, number, row, column) for clip, row, column in same}
    assert matches == set(map(tuple, stored["GT_tracking_nonzero"].tolist()))


def test_a_training_step(
    facts: dict[str, Any], stored: dict[str, Any], targets: ClipTargets
) -> None:
    names = {name: official_name(name) for name in expected_shapes(PAPER)}
    shapes = {names[name]: shape for name, shape in expected_shapes(PAPER).items()}
    drawn = draw_weights(shapes, facts["offset"], facts["P"])
    model = Visolo(PAPER)
    model.load_state_dict({ours: torch.from_numpy(drawn[names[ours]]) for ours in names})
    for part in (model.backbone.conv1, model.backbone.layer1):
        part.requires_grad_(False)
    videos = [draw_video(clip["video"], clip["n"], 352, 624)[clip["t"]] for clip in facts["clips"]]
    clips = torch.from_numpy(np.stack(videos)).permute(0, 1, 4, 2, 3).float()

    output = model(clips)
    grid = PAPER.grid
    category = output.class_logits.detach().transpose(1, 2).reshape(2, 40, 3, *grid)
    sampled = category.ravel()[:: facts["step"]].numpy()
    assert np.abs(sampled - stored["pred_cats"]).max() < 2e-3
    mean, deviation, magnitudes = facts["stats"]["pred_cats"][:3]  # of all
    assert category.mean().item() == pytest.approx(mean, rel=1e-4)
    assert category.std(correction=0).item() == pytest.approx(deviation, rel=1e-4)
    assert category.abs().double().sum().item() == pytest.approx(magnitudes, rel=1e-4)

    losses: Losses = clip_losses(output, targets)
    assert losses.category.item() == pytest.approx(facts["losses"]["loss_cat"], rel=1e-4)
    assert losses.mask.item() == pytest.approx(facts["losses"]["loss_mask"], rel=1e-4)
    assert losses.tracking.item() == pytest.approx(facts["losses"]["loss_tracking"], rel=1e-4)

    losses.total.backward()  # type: ignore[no-untyped-call]
    gradients = {names[name]: each.grad for name, each in model.named_parameters()}
    for name, golden in facts["grads"].items():
        gradient = gradients[name]
        assert gradient is not None
        # Gradients depend on which side of zero a few ReLUs fall in another library: the norms move
        # by a thousandth from processor to processor, single entries by five thousandths of the
        # largest. Three and four times as much is allowed.
        assert gradient.norm().item() == pytest.approx(golden["norm"], rel=3e-3), name
        first = gradient.ravel()[:8].numpy()
        assert np.abs(first - golden["first8"]).max() < 2e-2 * golden["absmax"], name
    frozen = {name for name, each in gradients.items() if each is None}
    assert frozen == set(facts["frozen"])


# -------------------------------------------------------------------- the parts, by themselves


def naive_owner(masks: torch.Tensor, grid: tuple[int, int]) -> list[int]:
    """Cells of one frame, a loop at a time, with the true extent."""
    height, width = masks.shape[1:]
    owners = []
    for row in range(grid[0]):
        for column in range(grid[1]):
            best, nearest = -1, float("inf")
            for index, mask in enumerate(masks):
                y, x = mask.nonzero(as_tuple=True)
                if not len(y):
                    continue
                inside, far = True, 0.0
                for values, pixels, cells, cell in (
                    (y, height, grid[0], row),
                    (x, width, grid[1], column),
                ):
                    centre = values.double().mean().item()
                    length = int(values.max() - values.min()) + 1
                    low = int(np.floor((centre - 0.1 * length) / pixels * cells))
                    high = int(np.floor((centre + 0.1 * length) / pixels * cells))
                    inside = inside and low <= cell <= high
                    far += (cell + 0.5 - centre / pixels * cells) ** 2
                if inside and far < nearest:
                    best, nearest = index, far
            owners.append(best)
    return owners


@pytest.mark.parametrize("seed", range(5))
def test_assignment_equals_a_plain_loop(seed: int) -> None:
    generator = np.random.default_rng(seed)
    masks = torch.zeros(1, 4, 47, 61, dtype=torch.bool)
    for index in range(3):  # the fourth stays empty
        top, left = generator.integers(0, 30, 2)
        height, width = generator.integers(3, 17, 2)
        masks[0, index, top : top + height, left : left + width] = True
    owner = assign_cells(masks, (5, 7), "mask")
    assert owner[0].tolist() == naive_owner(masks[0], (5, 7))


def test_no_objects() -> None:
    none = torch.zeros(3, 0, 32, 32, dtype=torch.bool)
    owner = assign_cells(none, (2, 3), "mask")
    assert owner.tolist() == [[-1] * 6] * 3
    targets = ClipTargets(owner[None], (torch.zeros(0, dtype=torch.long),), (none,))
    output = ClipOutput(
        torch.randn(1, 3, 8, 8, 8),
        torch.randn(1, 3, 8, 6, requires_grad=True),
        torch.randn(1, 3, 2, 6, requires_grad=True),
        torch.randn(1, 3, 6, 6, requires_grad=True),
    )
    losses = clip_losses(output, targets)
    assert losses.mask.item() == 0
    assert losses.tracking.item() == 0
    assert losses.category.item() > 0
    losses.total.backward()  # type: ignore[no-untyped-call]


def test_focal_is_the_published_formula() -> None:
    logits = torch.tensor([-2.0, 0.0, 3.0, 12.0, -12.0])
    for truth in (0.0, 1.0):
        p = logits.double().sigmoid()
        right = p if truth else 1 - p
        alpha = 0.25 if truth else 0.75
        expected = -alpha * (1 - right) ** 2 * right.log()
        loss = focal(logits, torch.full_like(logits, truth))
        assert torch.allclose(loss.double(), expected, rtol=1e-4, atol=1e-6)


def test_cells_without_an_object_learn_nothing_of_classes_that_are_not_annotated() -> None:
    """A rider on an annotated motorcycle may be a person without an annotation."""
    torch.manual_seed(0)
    logits = torch.randn(2, 1, 3, 4, requires_grad=True)  # two clips, three classes, four cells
    owner = torch.tensor([[[-1, 0, -1, -1]], [[0, -1, -1, -1]]])
    classes, masks = (torch.tensor([1]), torch.tensor([2])), (torch.zeros(1, 1, 4, 4).bool(),) * 2
    unsure = (torch.tensor([0, 2]), torch.tensor([], dtype=torch.int64))
    loss = category_sum(logits, ClipTargets(owner, classes, masks, unsure))
    loss.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    learns = logits.grad[:, 0] != 0
    assert learns[0, 1].all()  # the annotated class, everywhere
    assert learns[0, [0, 2]].tolist() == [[False, True, False, False]] * 2  # the others, on it
    assert learns[1].all()  # a clip of which everything is known


def test_perfect_predictions_cost_nothing() -> None:
    owner = torch.tensor([[[0, -1], [-1, 0]]])
    match = torch.full((1, 1, 2, 2), -20.0)
    match[0, 0, 0, 1] = 20
    nobody = ClipTargets(owner, (), ())
    assert tracking_sum(match, nobody).item() < 1e-6
    logits = torch.full((1, 2, 3, 2), -20.0)
    logits[0, 0, 1, 0] = logits[0, 1, 1, 1] = 20
    masks = torch.ones(2, 1, 8, 8, dtype=torch.bool)
    targets = ClipTargets(owner, (torch.tensor([1]),), (masks,))
    assert category_sum(logits, targets).item() < 1e-6
    features = torch.ones(1, 2, 1, 2, 2)
    assert mask_sum(features, torch.full((1, 2, 1, 2), 20.0), targets).item() < 1e-6
    nothing = torch.zeros(1, 2, 2, dtype=torch.bool)
    assert dice(torch.ones(1, 2, 2), nothing, torch.tensor([0])).item() == 1


def test_an_object_that_has_left_can_learn_to_match_nobody() -> None:
    """Object 0 leaves; 1 stays, and moves to its cell. Officially, 0 learns nothing from that."""
    owner = torch.tensor([[[0, 1, -1], [1, -1, -1]]])
    for departed, rows in ((False, [1]), (True, [0, 1])):
        targets = ClipTargets(owner, (), (), departed=departed)
        match = torch.zeros(1, 1, 3, 3, requires_grad=True)
        tracking_sum(match, targets).backward()  # type: ignore[no-untyped-call]
        assert match.grad is not None
        gradient = match.grad[0, 0]
        assert gradient.any(dim=1).nonzero().flatten().tolist() == rows
        assert (gradient[0] >= 0).all()  # what is learnt of a departed object is never a match
        assert gradient[1, 0] < 0 < gradient[1, 2]
        assert loss_counts(targets)[2] == 1
    gone = ClipTargets(torch.tensor([[[0, -1, -1], [-1, -1, -1]]]), (), ())
    assert loss_counts(gone)[2] == 0
    assert loss_counts(gone._replace(departed=True))[2] == 1
