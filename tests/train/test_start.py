"""The weights that a training starts from: trunks in files, and branches of other networks."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchvision.models import mobilenet_v2

from visolo_core.errors import VisoloError
from visolo_core.nn import Visolo
from visolo_core.nn.checkpoint import load_checkpoint
from visolo_runtime.models.shipped import shipped_weights
from visolo_train.learning.recipe import read_recipe
from visolo_train.learning.start import (
    build_network,
    load_backbone,
    load_branches,
    missing_starts,
)

SMALL = ["network.input_size=[64,96]", "network.grid=[4,6]"]


def everyday(*changes: str) -> list[str]:
    return [*SMALL, "start.backbone=", *changes]


def check_trunk(model: Visolo, theirs: dict[str, Tensor]) -> None:
    """Every tensor of the trunk is torchvision's, but for the way down, which adds nothing yet."""
    for name, tensor in model.backbone.state_dict().items():
        if name.startswith("lateral."):
            assert not tensor.any()
        else:
            assert torch.equal(tensor, theirs[name]), name


@pytest.mark.parametrize("backbone", ["mobilenet_v2", "mobilenet_v2_fpn"])
def test_mobilenet_from_torchvisions_file(backbone: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = mobilenet_v2().state_dict()
    torch.save(theirs, tmp_path / "mobilenet.pth")
    changes = f"start.backbone={tmp_path / 'mobilenet.pth'}", f"network.backbone={backbone}"
    recipe = read_recipe("everyday_base", everyday(*changes))
    model = build_network(recipe.network, recipe.start)
    check_trunk(model, theirs)


def test_mobilenet_under_other_names(tmp_path: Path) -> None:
    """Packages hold the same layers in the same order, under the names of its author."""
    torch.manual_seed(0)
    theirs = mobilenet_v2().state_dict()
    renamed = OrderedDict((f"layer.{at}", each) for at, each in enumerate(theirs.values()))
    counted = dict(zip(renamed, theirs, strict=True))
    for new, old in counted.items():  # PyTorch's own counter keeps its name in every package
        if old.endswith("num_batches_tracked"):
            renamed[f"{new}.num_batches_tracked"] = renamed.pop(new)
    torch.save(renamed, tmp_path / "renamed.pth")
    recipe = read_recipe("everyday_base", everyday())
    model = build_network(recipe.network, recipe.start)
    load_backbone(model, str(tmp_path / "renamed.pth"))
    check_trunk(model, theirs)
    # The same tensors in another order are another network.
    shuffled = OrderedDict(reversed(renamed.items()))
    torch.save(shuffled, tmp_path / "shuffled.pth")
    with pytest.raises(VisoloError, match="does not fit the network"):
        load_backbone(model, str(tmp_path / "shuffled.pth"))


def test_branches_of_the_network_of_shapes() -> None:
    recipe = read_recipe("everyday_base", everyday())
    model = build_network(recipe.network, recipe.start)
    lite = load_checkpoint(shipped_weights()).state
    state = model.state_dict()
    taken = load_branches(model, "lite")
    assert len(taken) == 111
    assert all(torch.equal(state[name], lite[name]) for name in taken)
    # Six shapes are not the first six of seven real things.
    assert not any(name.startswith(("backbone.", "category_branch.classifier")) for name in taken)


def test_what_other_networks_contribute_is_said() -> None:
    notes: list[str] = []
    recipe = read_recipe("everyday_base", everyday())
    build_network(recipe.network, recipe.start, notes.append)
    assert notes == [
        "111 of the 118 tensors outside the backbone come from 'lite', the others begin anew"
    ]


def test_branches_that_do_not_fit() -> None:
    wide = read_recipe(
        "everyday_base", everyday("start.branches=", "network.width=48", "network.mask_width=24")
    )
    model = build_network(wide.network, wide.start)
    with pytest.raises(VisoloError, match="no tensor"):
        load_branches(model, "lite")


def test_frozen_parts() -> None:
    recipe = read_recipe("everyday_base", everyday())
    model = build_network(recipe.network, recipe.start)
    frozen = {name for name, each in model.backbone.named_parameters() if not each.requires_grad}
    assert {name.split(".")[1] for name in frozen} == {str(block) for block in range(7)}
    wrong = read_recipe("everyday_base", everyday('start.frozen=["layer1"]'))
    with pytest.raises(VisoloError, match=r"no part 'layer1'.*features\.0"):
        build_network(wrong.network, wrong.start)


def test_a_recipe_that_goes_on_from_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It says which one to train first; the two networks are the same."""
    monkeypatch.chdir(tmp_path)
    for name, before in (
        ("everyday_spans", "everyday_base"),
        ("everyday", "everyday_spans"),
        ("ovis_r50", "coco_r50"),
    ):
        recipe = read_recipe(name, [])
        with pytest.raises(VisoloError, match=f"run first 'visolo train {before}'"):
            build_network(recipe.network, recipe.start)
    rows = [read_recipe(f"everyday{part}", []) for part in ("", "_spans", "_base")]
    assert rows[0].network == rows[1].network == rows[2].network
    other = read_recipe("everyday", ["start.weights=mine.safetensors"])
    with pytest.raises(VisoloError, match=r"cannot read 'mine\.safetensors'"):
        build_network(other.network, other.start)


def test_what_has_to_be_trained_before_a_recipe(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where the data are and how it runs is the same in all; nothing else is."""
    monkeypatch.chdir(tmp_path)
    changes = [
        "data.stills.annotations=mine.json", "run.threads=2", "start.backbone=mine.pth",
        "data.stills.reach=5", "schedule.steps=7",
    ]  # fmt: skip

    def before(name: str) -> list[str]:
        return [path.as_posix() for path, _ in missing_starts(read_recipe(name, changes), changes)]

    assert before("everyday") == ["runs/everyday_base", "runs/everyday_spans"]
    (_, base), (_, spans) = missing_starts(read_recipe("everyday", changes), changes)
    assert base == read_recipe("everyday_base", changes[:3])
    assert spans == read_recipe("everyday_spans", changes[:2])  # it has no backbone to load
    assert before("everyday_base") == []
    own = ["data.coco.annotations=coco.json", "data.ytvis2019.annotations=videos.json"]
    ((_, coco),) = missing_starts(read_recipe("ytvis2019_r50", own), own)
    assert coco == read_recipe("coco_r50", own[:1])
    Path("runs/everyday_base").mkdir(parents=True)
    Path("runs/everyday_base/weights.safetensors").touch()
    assert before("everyday") == ["runs/everyday_spans"]
    other = read_recipe("everyday", ["start.weights=everyday"])
    assert missing_starts(other, []) == []


def test_the_network_of_the_package_is_that_of_its_recipe() -> None:
    recipe = read_recipe("everyday", [f"start.weights={shipped_weights('everyday')}"])
    model = build_network(recipe.network, recipe.start)
    theirs = load_checkpoint(shipped_weights("everyday")).state
    assert all(torch.equal(each, theirs[name]) for name, each in model.state_dict().items())
