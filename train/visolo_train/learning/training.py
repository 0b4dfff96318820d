"""A whole training from a recipe: data, network, loop, validation, final weights.

The folder of a training holds ``recipe.json`` (all settings), ``checkpoint.pt`` (from which an
interrupted training continues), ``weights.safetensors`` (the trained network), ``tensorboard/``
and, where the best weights are kept, ``scores.json``.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from visolo_core.checkpoint_header import CheckpointHeader
from visolo_core.errors import VisoloError
from visolo_core.files import (
    give_name,
    read_json,
    reason,
    remove_temporary,
    replaced,
    temporary_beside,
)
from visolo_core.nn.checkpoint import Checkpoint, save_checkpoint
from visolo_runtime.session.loading import load
from visolo_train.data.annotations import read_annotations
from visolo_train.evaluation.scoring import Score, score_model
from visolo_train.learning.best_weights import BestWeights
from visolo_train.learning.data_sets import build_clips
from visolo_train.learning.loop import Trainer, train
from visolo_train.learning.losses import Losses
from visolo_train.learning.recipe import Recipe
from visolo_train.learning.start import build_network
from visolo_train.learning.team import Team

CHECKPOINT, WEIGHTS, RECIPE = "checkpoint.pt", "weights.safetensors", "recipe.json"
SCORES = "scores.json"


class Training:
    """One training.

    Args:
        recipe: all settings.
        folder: of the training; created if it does not exist.
        team: the processes that train together.
        resume: continue from the folder's checkpoint if there is one.

    Raises:
        VisoloError: if data or weights are missing or do not fit; if the folder holds a training
            and ``resume`` is not given, or that training had other settings.
    """

    def __init__(self, recipe: Recipe, folder: Path, team: Team, resume: bool) -> None:
        self.recipe, self.folder, self.team = recipe, folder, team
        self.labels = recipe.network.label_set()
        has_checkpoint = (folder / CHECKPOINT).exists()
        if has_checkpoint and not resume:
            raise VisoloError(
                f"'{folder}' holds a training: continue it with --resume, or name another folder"
            )
        if has_checkpoint:
            self._check_settings()
        self.notes: list[str] = []
        """Remarks about data and initial weights, in sentences, to show before the first step."""
        self.data = build_clips(recipe, self.labels, self.notes.append)
        network = build_network(recipe.network, recipe.start, self.notes.append)
        self.trainer = Trainer(network, recipe.schedule, team)
        self._validation = (
            read_annotations(recipe.validation.annotations, recipe.validation.crowd_objects)
            if recipe.validation.annotations and team.leads
            else None
        )
        self.selection: BestWeights | None = None
        """Of the leading process, where the best weights are kept."""
        if recipe.validation.keep == "best":
            self._check_validation()
        if has_checkpoint:
            self.trainer.resume(folder / CHECKPOINT)
        elif team.leads:
            self._begin()
        self._check_team()
        if self._validation and recipe.validation.keep == "best":
            patience = recipe.validation.patience
            self.selection = BestWeights(folder / SCORES, self.trainer.step, patience)
        self._stopped = False  # Ctrl-C while it was scored

    def run(
        self,
        report: Callable[[int, Losses], None] = lambda *_: None,
        scored: Callable[[int, Score], None] = lambda *_: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Train to the end.

        Args:
            report: called with the number of steps done and the losses of the last step, in
                every process.
            scored: called with the number of steps done and a score, in the leading process.
            stop: called after every step: whether to save and stop.

        Returns:
            whether the end was reached.
        """

        def step_done(step: int, losses: Losses) -> None:
            report(step, losses)
            if self._is_due(step):
                self._score(scored)
                self.team.wait()

        # The first weights are candidates too, and a kill may have come before a score.
        step = self.trainer.step
        if self.selection and self._is_due(step) and not self.selection.has(step):
            self._score(scored)
        finished = self._anyone(self._is_over())
        if not finished and not self._anyone(self._stopped):
            finished = train(
                self.trainer,
                self.data,
                self.folder / CHECKPOINT,
                self.recipe.run.save_every,
                self.recipe.run.workers,
                step_done,
                lambda: stop() or self._stopped or self._is_over(),
            )
            finished = self._anyone(finished or self._is_over())
            finished = finished and not self._anyone(self._stopped)
        if finished and self.team.leads and not self.selection:
            self._save_weights(self.folder / WEIGHTS)
        return finished

    def _is_due(self, step: int) -> bool:
        every = self.recipe.validation.every
        return every > 0 and (step % every == 0 or step == self.recipe.schedule.steps)

    def _is_over(self) -> bool:
        return self.selection is not None and self.selection.is_over

    def _anyone(self, condition: bool) -> bool:
        """Whether a condition holds in any process."""
        return bool(self.team.sum(torch.tensor(float(condition), device=self.team.device)))

    def _save_weights(self, path: Path) -> None:
        header = CheckpointHeader(self.trainer.model.config, self.labels)
        save_checkpoint(path, Checkpoint(header, self.trainer.best_weights()))

    def _score(self, scored: Callable[[int, Score], None]) -> None:
        """Score the present weights, and keep them if they are to be kept."""
        validation = self.recipe.validation
        if self._validation is None:
            return
        assert validation.annotations is not None
        file = temporary_beside(self.folder / WEIGHTS)
        try:
            self._save_weights(file)
            score = score_model(
                load(file), self._validation, validation.annotations, validation.images
            )
            ap = score.figures["AP"]
            if self.selection is None or self.selection.is_best(ap):
                give_name(file, self.folder / WEIGHTS)
        except KeyboardInterrupt:
            self._stopped = True
            return
        finally:
            remove_temporary(file)
        if self.selection:
            self.selection.add(self.trainer.step, ap)
        scored(self.trainer.step, score)

    def _check_validation(self) -> None:
        """Make sure that there is something to choose the best weights by."""
        if self.recipe.validation.annotations is None or not self.recipe.validation.every:
            raise VisoloError(
                "validation.keep = 'best' needs scores to choose by: set validation.annotations "
                "and validation.every"
            )
        if self._validation and all(track.crowd for track in self._validation.tracks):
            raise VisoloError(
                f"'{self.recipe.validation.annotations}' has no object: there is nothing to choose "
                "the best weights by"
            )

    def _begin(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise VisoloError(f"cannot write '{self.folder}': {reason(error)}") from error
        (self.folder / SCORES).unlink(missing_ok=True)
        with replaced(self.folder / RECIPE) as temporary:
            temporary.write_text(json.dumps(self.recipe.model_dump(mode="json"), indent=1))

    def _check_team(self) -> None:
        """All processes must have the same settings and stand at the same step: where machines do
        not share the folder, some have no checkpoint.

        Raises:
            VisoloError: if they do not, in every process.
        """
        settings = json.dumps(self.recipe.fixed(), sort_keys=True)
        if not self.team.agrees(zlib.crc32(settings.encode())):
            raise VisoloError(
                "the processes of this training have different settings: give all machines the "
                "same command and the same files"
            )
        if not self.team.agrees(self.trainer.step):
            raise VisoloError(
                f"the processes of this training found different checkpoints in '{self.folder}': "
                "name a folder that all machines share"
            )

    def _check_settings(self) -> None:
        path = self.folder / RECIPE
        theirs = _flat(_as_written(path).fixed())
        ours = _flat(self.recipe.fixed())
        for name, value in ours.items():
            if theirs.get(name) != value:
                raise VisoloError(
                    f"'{path}' says {name} = {theirs.get(name)!r}, now it is {value!r}: "
                    "a training can only be resumed with its original settings"
                )


def _as_written(path: Path) -> Recipe:
    """The settings in a file of them, with the defaults of those that are younger than it."""
    try:
        return Recipe.model_validate(read_json(path))
    except ValidationError as error:
        raise VisoloError(f"'{path}' does not hold the settings of a training") from error


def _flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by dotted names."""
    flat: dict[str, Any] = {}
    for name, value in table.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def set_threads(threads: int) -> None:
    """CPU threads of this process; 0 lets PyTorch choose."""
    if threads:
        torch.set_num_threads(threads)
