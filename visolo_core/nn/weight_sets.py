"""Where the weights are in a checkpoint of the official code, or of a program that trains it.

A file may hold the dictionary of parameters itself, or under a name such as ``model``,
``state_dict`` or, for a running average of the weights, ``ema``. Wrappers put a word before each
name: ``module.`` (DataParallel), ``_orig_mod.`` (``torch.compile``). A set of weights is recognised
by its classifier, wherever it is and whatever stands before the names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visolo_core.errors import VisoloError
from visolo_core.nn.official_names import ALIAS_PREFIX, CLASSIFIER, PREFIX, official_name

AVERAGE, PLAIN = "ema", "model"
_CLASSIFIER_WEIGHT = official_name(f"{CLASSIFIER}.weight")
_BARE_CLASSIFIER = _CLASSIFIER_WEIGHT.removeprefix(PREFIX)
_FIRST_PART = _BARE_CLASSIFIER.partition(".")[0]
_WRAPPERS = {"module", "_orig_mod", "_forward_module", "_fsdp_wrapped_module"}
_AVERAGED = re.compile(r"(^|[._])(ema|averaged?|swa|shadow)([._]|$)", re.IGNORECASE)
_MAX_DEPTH = 4  # of dictionaries in dictionaries


@dataclass(frozen=True)
class WeightSet:
    """A set of weights in a file."""

    name: str
    """Where it is: the names of the dictionaries, and what stands before its parameters."""
    tensors: dict[str, Any]
    """By official name."""

    @property
    def is_average(self) -> bool:
        """Whether it is a running average of the weights (EMA)."""
        return _AVERAGED.search(self.name) is not None


def choose_weights(document: Mapping[Any, Any], path: Path, choice: str = "") -> WeightSet:
    """The weights of a file.

    Args:
        document: content of the file.
        path: of the file, for messages.
        choice: of several sets, ``ema`` (a running average), ``model`` (no average) or the name of
            one; empty if there is only one.

    Raises:
        VisoloError: if there are no weights, several of which none is chosen, or none of that name.
    """
    sets = _weight_sets(document)
    if not sets:
        if any(_is_parameters(each) for _, each in _dictionaries(document)):
            raise VisoloError(
                f"'{path}' is not an official checkpoint: it has no classifier "
                f"'{_CLASSIFIER_WEIGHT}'"
            )
        raise VisoloError(f"'{path}' is not an official checkpoint: it has no parameters")
    names = [each.name for each in sets]
    fitting = [each for each in sets if choice in ("", each.name)] or [
        each
        for each in sets
        if choice in (AVERAGE, PLAIN) and each.is_average == (choice == AVERAGE)
    ]
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        raise VisoloError(f"'{path}' has no weights '{choice}': it has {_listed(names)}")
    averages = sum(each.is_average for each in sets)
    words = [PLAIN, AVERAGE] if len(sets) == 2 and averages == 1 else names
    raise VisoloError(
        f"'{path}' has {len(sets)} sets of weights, {_listed(names)}: choose one with "
        f"visolo convert --weights {' or --weights '.join(words)}"
    )


def _listed(names: list[str]) -> str:
    return " and ".join(f"'{name}'" for name in names)


def _weight_sets(document: Mapping[Any, Any]) -> list[WeightSet]:
    sets: dict[tuple[str, ...], dict[str, Any]] = {}
    for place, dictionary in _dictionaries(document):
        named = {name: each for name, each in dictionary.items() if isinstance(name, str)}
        prefixes = _prefixes(named)
        for prefix in reversed(prefixes):
            sets[(*place, *prefix.split("."))] = _of_prefix(named, prefix, prefixes)
        sets |= {(*place, AVERAGE): each for each in _averages_beside(named, prefixes)}
    short = {place: _short(place) for place in sets}
    if len(set(short.values())) < len(short):
        short = {place: ".".join(filter(None, place)) for place in sets}
    return [WeightSet(short[place], tensors) for place, tensors in sets.items()]


def _short(place: tuple[str, ...]) -> str:
    """A name without the words that wrappers and the official code put there."""
    words = [word for word in place if word and word not in _WRAPPERS]
    while len(words) > 1 and words[-1] == PLAIN:
        words.pop()
    return ".".join(words) or PLAIN


def _prefixes(named: Mapping[str, Any]) -> list[str]:
    """What stands before the parameters of each set in a dictionary, the longest first."""
    found = {
        name[: name.index(_FIRST_PART)]
        for name in named
        if _FIRST_PART in name and _unwrapped(name).endswith(_BARE_CLASSIFIER)
    }
    return sorted(found, key=len, reverse=True)


def _of_prefix(named: Mapping[str, Any], prefix: str, prefixes: list[str]) -> dict[str, Any]:
    """A set of weights by official name. What has a name of its own stays, to be reported."""
    tensors = {}
    for name, value in named.items():
        owner = next((each for each in prefixes if name.startswith(each)), None)
        is_alias = ALIAS_PREFIX[:-1] in name.split(".")
        if is_alias or "." not in name or owner not in (prefix, None):
            continue  # a step counter, for example, has no dot
        tensors[name if owner is None else PREFIX + _unwrapped(name[len(prefix) :])] = value
    return tensors


def _averages_beside(named: Mapping[str, Any], prefixes: list[str]) -> list[dict[str, Any]]:
    """The average that OpenMMLab's hook keeps in the same dictionary: ``ema_`` stands before each
    name, and ``_`` for every dot."""
    averages = []
    for prefix in prefixes:
        names = {
            f"{AVERAGE}_{name.replace('.', '_')}": name for name in named if name.startswith(prefix)
        }
        average = {names[name]: each for name, each in named.items() if name in names}
        if average:
            averages.append(_of_prefix(average, prefix, [prefix]))
    return averages


def _unwrapped(name: str) -> str:
    return ".".join(word for word in name.split(".") if word not in _WRAPPERS)


def _dictionaries(
    document: Mapping[Any, Any], place: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Mapping[Any, Any]]]:
    """All dictionaries of a file, with the names that lead to each."""
    yield place, document
    if len(place) < _MAX_DEPTH:
        for name, each in document.items():
            if isinstance(each, Mapping):
                yield from _dictionaries(each, (*place, str(name)))


def _is_parameters(dictionary: Mapping[Any, Any]) -> bool:
    return any(isinstance(name, str) and "." in name for name in dictionary)
