"""The weights that a training starts from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from torch import Tensor

from visolo_core.categories import LabelSet
from visolo_core.config import MOBILENETS
from visolo_core.errors import VisoloError
from visolo_core.files import reason
from visolo_core.nn import Visolo
from visolo_core.nn.checkpoint import load_checkpoint
from visolo_core.nn.initialise import ready_to_train
from visolo_core.nn.mobilenet import LATERAL, MobileNetV2
from visolo_core.nn.tensor_files import check_state, load_tensors, read_safetensors
from visolo_runtime.models.shipped import SHIPPED, shipped_weights
from visolo_train.data.category_maps import class_partners
from visolo_train.learning.recipe import NetworkTable, Recipe, StartTable, names, read_recipe

IMAGENET = "imagenet"
_SHAPES = "lite"
_CLASSIFIER = "category_branch.classifier."
_PLACES = ("annotations", "images", "backgrounds")  # of a data set


def build_network(
    network: NetworkTable, start: StartTable, note: Callable[[str], None] = lambda _: None
) -> Visolo:
    """The network of a recipe, with its initial weights and its frozen parts frozen.

    Args:
        network: its shape.
        start: its weights.
        note: called with what other networks contribute, in sentences.

    Raises:
        VisoloError: if weights are missing or do not fit.
    """
    config = network.config()
    if start.frozen and config.backbone_norm != "frozen":
        raise VisoloError(
            "start.frozen needs network.backbone_norm = 'frozen': batch norms that learn would "
            "still follow the data"
        )
    model = ready_to_train(config, start.seed)
    if start.backbone:
        load_backbone(model, start.backbone)
    if start.branches:
        taken = load_branches(model, start.branches)
        others = [name for name in model.state_dict() if not name.startswith("backbone.")]
        note(
            f"{len(taken)} of the {len(others)} tensors outside the backbone come from "
            f"'{start.branches}', the others begin anew"
        )
    if start.weights:
        labels = network.label_set() if start.same_classes else None
        _load_weights(model, start.weights, labels, note)
    for name in start.frozen:
        try:
            model.backbone.get_submodule(name).requires_grad_(False)
        except AttributeError as error:
            parts = [each for each, _ in model.backbone.named_modules() if each.count(".") < 2]
            raise VisoloError(
                f"start.frozen: {config.backbone} has no part '{name}': "
                f"choose among {', '.join(filter(None, parts))}"
            ) from error
    return model


def load_backbone(model: Visolo, source: str) -> None:
    """Load the weights of torchvision's classifier into the backbone.

    Args:
        model: a network whose backbone has torchvision's width.
        source: ``imagenet``, which downloads them once, or a file of them (.pth, .safetensors).

    Raises:
        VisoloError: if they cannot be obtained, or belong to another network.
    """
    path = Path(source)
    if source == IMAGENET:
        name = model.config.backbone
        state = _imagenet("mobilenet_v2" if name in MOBILENETS else name)
    else:
        state = read_safetensors(path) if path.suffix == ".safetensors" else load_tensors(path)
    backbone = model.backbone.state_dict()
    # Frozen norms have no batch counter, and older files lack it: the network's own are kept.
    own = {
        name: value
        for name, value in backbone.items()
        if name.endswith(_COUNTER) or name.startswith(LATERAL)
    }
    state = {name: value for name, value in state.items() if not name.endswith(_COUNTER)}
    unused: tuple[str, ...] = _UNUSED
    if isinstance(model.backbone, MobileNetV2):
        state = _by_order(state, [name for name in backbone if name not in own], backbone)
        blocks = len(model.backbone.features)
        unused = ("classifier.", *(f"features.{block}." for block in range(blocks, 19)))
    state = {name: value for name, value in state.items() if not name.startswith(unused)}
    state |= own
    check_state(state, {name: tuple(each.shape) for name, each in backbone.items()}, path)
    model.backbone.load_state_dict(state)


_UNUSED = ("layer4.", "fc.")
_COUNTER = "num_batches_tracked"


def _by_order(state: dict[str, Any], names: list[str], shapes: dict[str, Tensor]) -> dict[str, Any]:
    """Weights under torchvision's names, if other names hold them in torchvision's order.

    Several packages distribute MobileNetV2 with the modules of its author, which are the same
    layers in the same order. The shapes of more than two hundred tensors in a row prove it.
    """
    if all(name in state for name in names):
        return state
    first = list(state.values())[: len(names)]
    same = len(first) == len(names) and all(
        getattr(value, "shape", None) == shapes[name].shape
        for name, value in zip(names, first, strict=True)
    )
    return dict(zip(names, first, strict=True)) if same else state


def _imagenet(backbone: str) -> dict[str, Any]:
    from torchvision.models import get_model_weights

    weights = get_model_weights(backbone).DEFAULT
    try:
        return dict(
            torch.hub.load_state_dict_from_url(
                weights.url, progress=False, check_hash=True, map_location="cpu", weights_only=True
            )
        )
    except (URLError, OSError, RuntimeError) as error:
        why = reason(error) if isinstance(error, OSError) else str(error)
        raise VisoloError(
            f"cannot download {weights.url} ({why}): download it on a machine with network access, "
            "and name the file with start.backbone=FILE"
        ) from error


def load_branches(model: Visolo, source: str) -> list[str]:
    """Take over what fits of another network's branches.

    Args:
        model: the new network.
        source: ``lite`` or a checkpoint.

    Returns:
        the names of the tensors taken over: those outside the backbone and the classifier whose
        name and shape both networks have.

    Raises:
        VisoloError: if it cannot be read, or nothing fits.
    """
    path = shipped_weights() if source == _SHAPES else Path(source)
    theirs = load_checkpoint(path).state
    fitting = {
        name: theirs[name]
        for name, ours in model.state_dict().items()
        if not name.startswith(("backbone.", _CLASSIFIER))
        and name in theirs
        and theirs[name].shape == ours.shape
    }
    if not fitting:
        raise VisoloError(
            f"start.branches: no tensor of '{path}' fits the branches of this network"
        )
    model.load_state_dict(fitting, strict=False)
    return sorted(fitting)


def missing_starts(recipe: Recipe, changes: list[str]) -> list[tuple[Path, Recipe]]:
    """What has to be trained before a recipe can start: each recipe with the folder of its
    training, in the order in which they are trained.

    Args:
        recipe: with its changes.
        changes: of it; those of where data and backbone are and of ``run`` are made in the others
            too.

    Raises:
        VisoloError: if a change does not fit.
    """
    starts: list[tuple[Path, Recipe]] = []
    while recipe.start.weights and (before := _recipe_before(recipe.start.weights)):
        as_written = read_recipe(before, [])
        recipe = read_recipe(before, [each for each in changes if _is_shared(each, as_written)])
        starts.insert(0, (Path("runs", before), recipe))
    return starts


def _is_shared(change: str, before: Recipe) -> bool:
    """Whether a change of a recipe holds for one before it, too."""
    match change.partition("=")[0].strip().split("."):
        case ["run", _]:
            return True
        case ["start", "backbone"]:
            return bool(before.start.backbone)
        case ["data", name, setting]:
            return name in before.data and setting in _PLACES
    return False


def _recipe_before(path: Path) -> str:
    """The recipe whose training writes these weights, if they are missing; otherwise nothing."""
    before = path.parent.name
    written = before in names() and path == Path("runs", before, "weights.safetensors")
    return before if written and not path.exists() else ""


def weights_file(name_or_path: Path) -> Path:
    """The weights of a network of the package, by its name; any other path stays as it is."""
    name = str(name_or_path)
    return shipped_weights(name) if name in SHIPPED else name_or_path


def _load_weights(
    model: Visolo, path: Path, labels: LabelSet | None, note: Callable[[str], None]
) -> None:
    """Load a checkpoint.

    A classifier of other categories is initialised again; with ``labels``, the categories of the
    new network, only those that the checkpoint does not know.
    """
    path = weights_file(path)
    before = _recipe_before(path)
    if before:
        raise VisoloError(
            f"'{path}' does not exist: this recipe goes on from another, so run first "
            f"'visolo train {before}', let --with-start do it, or name weights with "
            "--set start.weights=FILE"
        )
    checkpoint = load_checkpoint(path)
    ours: dict[str, Tensor] = model.state_dict()
    state = dict(checkpoint.state)
    if labels is not None:
        partners = class_partners(labels, checkpoint.header.labels)
        for name in (each for each in ours if each.startswith(_CLASSIFIER)):
            state[name] = ours[name].clone()
            for new, old in partners.items():
                state[name][new] = checkpoint.state[name][old]
        known = ", ".join(labels.names[each] for each in partners) or "none"
        note(f"classes that '{path.stem}' knows already: {known}; the others begin anew")
    elif checkpoint.header.config.classes != model.config.classes:
        state |= {name: each for name, each in ours.items() if name.startswith(_CLASSIFIER)}
    check_state(state, {name: tuple(each.shape) for name, each in ours.items()}, path)
    model.load_state_dict(state)
