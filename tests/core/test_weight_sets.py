"""Where the weights are in a checkpoint: the shapes that programs save, and two sets in one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from visolo_core.config import PAPER
from visolo_core.errors import VisoloError
from visolo_core.nn.checkpoint import expected_shapes
from visolo_core.nn.official_names import official_name
from visolo_core.nn.weight_sets import choose_weights

PATH = Path("official.pth")
State = dict[str, Any]
Saved = Callable[[State], State]


@pytest.fixture(scope="module")
def official() -> State:
    """Every official name, the aliases too; the numbers do not matter here."""
    names = [official_name(name) for name in expected_shapes(PAPER)]
    aliases = [
        name.replace("model.Tracking_branch", "tracking_module")
        for name in names
        if name.startswith("model.Tracking_branch")
    ]
    return {name: torch.tensor(float(at)) for at, name in enumerate([*names, *aliases])}


def parameters(state: State) -> State:
    """Without the aliases."""
    return {name: each for name, each in state.items() if name.startswith("model.")}


def bare(state: State) -> State:
    """Without the official prefix."""
    return {name.removeprefix("model."): each for name, each in parameters(state).items()}


def prefixed(prefix: str, state: State) -> State:
    return {prefix + name: each for name, each in state.items()}


def averaged(state: State) -> State:
    """Other weights of the same names."""
    return {name: each + 0.5 for name, each in state.items()}


ONE_SET: dict[str, Saved] = {
    "official": lambda s: {"model": s, "iteration": 139999},
    "state_dict": lambda s: {
        "state_dict": s,
        "epoch": 3,
        "optimizer": {"state": {0: {"exp_avg": torch.ones(1)}}, "param_groups": [{"lr": 1.0}]},
    },
    "bare dictionary": lambda s: s,
    "bare names": bare,
    "DataParallel": lambda s: {"model": prefixed("module.", s)},
    "torch.compile": lambda s: {"state_dict": prefixed("_orig_mod.", s)},
    "both": lambda s: prefixed("module._orig_mod.", bare(s)),
    "compiled parts": lambda s: {
        name.replace("_branch.", "_branch._orig_mod."): each for name, each in bare(s).items()
    },
    "Lightning": lambda s: {"state_dict": prefixed("model.", s), "callbacks": {}},
    "AveragedModel": lambda s: {"n_averaged": torch.tensor(5), **prefixed("module.", s)},
    "nested": lambda s: {"checkpoint": {"network": {"state_dict": s}}},
    "only an average": lambda s: {"ema": {"module": s, "updates": 7}},
}


@pytest.mark.parametrize("shape", ONE_SET)
def test_weights_are_found_in_any_shape(official: State, shape: str) -> None:
    for choice in ("", "ema" if "average" in shape else "model"):
        chosen = choose_weights(ONE_SET[shape](official), PATH, choice)
        assert chosen.tensors == parameters(official)


TWO_SETS: dict[str, tuple[Saved, list[str]]] = {
    "ema": (lambda s: {"model": s, "ema": averaged(s)}, ["model", "ema"]),
    "model_ema": (lambda s: {"model": s, "model_ema": averaged(s)}, ["model", "model_ema"]),
    "timm": (
        lambda s: {"state_dict": s, "state_dict_ema": averaged(s)},
        ["state_dict", "state_dict_ema"],
    ),
    "detectron2": (
        lambda s: {"model": s, "ema_state": averaged(bare(s)), "iteration": 3},
        ["model", "ema_state"],
    ),
    "DETR": (
        lambda s: {"model": s, "ema": {"module": averaged(s), "updates": 3}},
        ["model", "ema"],
    ),
    "shadow": (lambda s: {"net": s, "shadow": averaged(s)}, ["net", "shadow"]),
    "one dictionary": (
        lambda s: {"state_dict": {**s, **prefixed("model_ema.module.", averaged(bare(s)))}},
        ["state_dict", "state_dict.model_ema"],
    ),
    "OpenMMLab": (
        lambda s: {
            "state_dict": {
                **s,
                **{f"ema_{n.replace('.', '_')}": each for n, each in averaged(s).items()},
            }
        },
        ["state_dict", "state_dict.ema"],
    ),
}


@pytest.mark.parametrize("shape", TWO_SETS)
def test_of_two_sets_one_has_to_be_chosen(official: State, shape: str) -> None:
    save, names = TWO_SETS[shape]
    document = save(official)
    with pytest.raises(VisoloError) as refused:
        choose_weights(document, PATH)
    assert str(refused.value) == (
        f"'official.pth' has 2 sets of weights, '{names[0]}' and '{names[1]}': choose one with "
        "visolo convert --weights model or --weights ema"
    )
    plain, average = parameters(official), parameters(averaged(official))
    for choice, expected in zip(("model", "ema", *names), (plain, average) * 2, strict=True):
        assert choose_weights(document, PATH, choice).tensors == expected


def test_of_several_sets_one_is_chosen_by_its_name(official: State) -> None:
    document = {"best": official, "last": averaged(official)}
    with pytest.raises(VisoloError, match="--weights best or --weights last"):
        choose_weights(document, PATH)
    with pytest.raises(VisoloError, match="--weights best or --weights last"):
        choose_weights(document, PATH, "model")  # neither is an average
    with pytest.raises(VisoloError, match="no weights 'ema': it has 'best' and 'last'"):
        choose_weights(document, PATH, "ema")
    assert choose_weights(document, PATH, "best").tensors == parameters(official)


def test_what_has_another_name_stays_to_be_reported(official: State) -> None:
    tensors = choose_weights({"model": {**official, "head.weight": torch.ones(1)}}, PATH).tensors
    assert tensors.keys() - official.keys() == {"head.weight"}


@pytest.mark.parametrize(
    "document",
    [{}, {"model": {}}, {"model": [1]}, {"a": 1}, {1: {2: torch.ones(1)}}, {"a": {"b.c": 1}}],
)
def test_files_without_the_network(document: State) -> None:
    with pytest.raises(VisoloError, match=r"has no (classifier|parameters)"):
        choose_weights(document, PATH)
