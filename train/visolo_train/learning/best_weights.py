"""Which weights of a training are kept: those with the best score on the held-out part."""

from __future__ import annotations

import json
from pathlib import Path

from visolo_core.errors import VisoloError
from visolo_core.files import read_json, replaced


class BestWeights:
    """The scores of a training, in a file that an interrupted training continues.

    Args:
        path: of the file; read if it exists.
        last_step: that the training continues from; what was scored after it will be again.
        patience: scores in a row without a better one that end the training; 0 never ends it.

    Raises:
        VisoloError: if the file is damaged.
    """

    def __init__(self, path: Path, last_step: int, patience: int) -> None:
        self._path = path
        self._patience = patience
        self._scores: dict[int, float] = {}
        if path.exists():
            try:
                scores = {int(step): float(ap) for step, ap in read_json(path).items()}
            except (AttributeError, TypeError, ValueError, OverflowError) as error:
                raise VisoloError(f"'{path}' is not a list of scores: {error}") from error
            self._scores = {step: ap for step, ap in scores.items() if step <= last_step}

    def has(self, step: int) -> bool:
        """Whether the weights after a step were scored."""
        return step in self._scores

    @property
    def best(self) -> tuple[int, float]:
        """The step whose weights are kept, and their AP in 0 to 1. Of equals the latest."""
        ap = max(self._scores.values())
        return max(step for step, each in self._scores.items() if each == ap), ap

    def is_best(self, ap: float) -> bool:
        """Whether weights with this AP are to be kept."""
        return all(ap >= each for each in self._scores.values())

    def add(self, step: int, ap: float) -> None:
        """Write down a score, once its weights are kept or not."""
        self._scores[step] = ap
        with replaced(self._path) as temporary:
            temporary.write_text(json.dumps(self._scores, indent=1))

    @property
    def is_over(self) -> bool:
        """Whether the latest scores brought nothing, after others had brought something: until the
        score first rises, the network is given time to learn."""
        scores = [self._scores[step] for step in sorted(self._scores)]
        best, since, has_risen = max(scores[:1], default=0.0), 0, False
        for ap in scores[1:]:
            if ap > best:
                best, since, has_risen = ap, 0, True
            else:
                since += has_risen
        return 0 < self._patience <= since
