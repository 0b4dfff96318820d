"""The training loop, top to bottom: clips in, weights out, exact resume.

One checkpoint holds all that the next step depends on. Clips are numbered, so no state of a
random generator is part of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from visolo_core.errors import VisoloError
from visolo_core.files import replaced
from visolo_core.nn import Visolo
from visolo_core.tensor_files import load_tensors
from visolo_train.clips import ClipDataset, TrainingClip
from visolo_train.losses import ClipTargets, Losses, clip_losses
from visolo_train.targets import Extent, assign_cells


@dataclass(frozen=True)
class Schedule:
    """How weights are changed, step by step."""

    steps: int
    batch: int
    """Clips of a step."""
    learning_rate: float = 1e-4
    backbone_factor: float = 0.1
    """Learning rate of the backbone over that of the rest."""
    weight_decay: float = 1e-4
    clip_norm: float = 0.01
    """Largest norm of the whole gradient."""
    drops: tuple[int, ...] = ()
    """Steps at which the learning rate falls to a tenth; without any it follows a cosine."""
    warm_up: int = 0
    """Steps over which the learning rate rises from nothing."""
    average: float = 0.0
    """Share of the old weights in the running average of weights; 0 keeps none."""
    extent: Extent = "official"
    """How far an object's central region reaches, see ``visolo_train.targets``."""

    def rate(self, step: int) -> float:
        """Learning rate of a step, from 0, over the first one."""
        if step < self.warm_up:
            return (step + 1) / self.warm_up
        if self.drops:
            return float(0.1 ** sum(step >= drop for drop in self.drops))
        done = (step - self.warm_up) / max(1, self.steps - self.warm_up)
        return 0.5 * (1 + math.cos(math.pi * done))


class Trainer:
    """Weights, optimiser and place in the schedule.

    Args:
        model: the network; its frozen parameters have ``requires_grad`` False.
        schedule: how it is trained.
    """

    def __init__(self, model: Visolo, schedule: Schedule) -> None:
        self.model = model
        self.schedule = schedule
        self.step = 0
        groups = [
            {"params": list(part), "lr": schedule.learning_rate * factor, "factor": factor}
            for part, factor in _parameter_groups(model, schedule.backbone_factor)
        ]
        self._optimiser = torch.optim.AdamW(groups, weight_decay=schedule.weight_decay)
        self.averaged: dict[str, Tensor] = {}
        if schedule.average:
            self.averaged = {name: each.clone() for name, each in model.state_dict().items()}

    def train_step(self, clips: list[TrainingClip]) -> Losses:
        """Change the weights by one batch.

        Raises:
            VisoloError: if the loss is not a number; no parameter has changed then.
        """
        self.model.train()
        for group in self._optimiser.param_groups:
            rate = self.schedule.rate(self.step)
            group["lr"] = self.schedule.learning_rate * group["factor"] * rate
        frames = torch.stack([clip.frames for clip in clips]).float()
        losses = clip_losses(self.model(frames), self._targets(clips))
        if not bool(losses.total.isfinite()):
            named = ", ".join(f"{n} {v.item():.3g}" for n, v in losses._asdict().items())
            raise VisoloError(
                f"the loss of step {self.step} is not a number ({named}): lower the learning "
                "rate and go on from the last checkpoint"
            )
        self._optimiser.zero_grad(set_to_none=True)
        losses.total.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), self.schedule.clip_norm)
        self._optimiser.step()
        self._average()
        self.step += 1
        return Losses(*(each.detach() for each in losses))

    def best_weights(self) -> dict[str, Tensor]:
        """The averaged weights where an average is kept, else the current ones."""
        return self.averaged or self.model.state_dict()

    def save(self, path: Path) -> None:
        """Write all that the next step depends on, in one go."""
        state = {
            "step": self.step,
            "schedule": repr(asdict(self.schedule)),
            "model": self.model.state_dict(),
            "averaged": self.averaged,
            "optimiser": self._optimiser.state_dict(),
        }
        with replaced(path) as temporary:
            torch.save(state, temporary)

    def resume(self, path: Path) -> None:
        """Take up where :meth:`save` left off.

        Raises:
            VisoloError: if the file is no such checkpoint, or of another schedule or network.
        """
        state = load_tensors(path)
        if state.get("schedule") != repr(asdict(self.schedule)):
            raise VisoloError(f"'{path}' was not left by a training with this schedule")
        try:
            self.model.load_state_dict(state["model"])
        except RuntimeError as error:
            raise VisoloError(f"'{path}' belongs to another network") from error
        self._optimiser.load_state_dict(state["optimiser"])
        self.averaged = state["averaged"]
        self.step = state["step"]

    def _targets(self, clips: list[TrainingClip]) -> ClipTargets:
        grid, extent = self.model.config.grid, self.schedule.extent
        owner = torch.stack([assign_cells(clip.masks, grid, extent) for clip in clips])
        classes, masks = zip(*((clip.classes, clip.masks) for clip in clips), strict=True)
        return ClipTargets(owner, classes, masks)

    @torch.no_grad()
    def _average(self) -> None:
        if not self.averaged:
            return
        share = min(self.schedule.average, (1 + self.step) / (10 + self.step))
        for name, new in self.model.state_dict().items():
            if new.is_floating_point():
                self.averaged[name].lerp_(new, 1 - share)
            else:
                self.averaged[name].copy_(new)


def train(
    trainer: Trainer,
    data: ClipDataset,
    checkpoint: Path,
    save_every: int,
    workers: int = 0,
    report: Callable[[int, Losses], None] = lambda *_: None,
) -> None:
    """Train to the end of the schedule, from wherever the trainer stands.

    Args:
        trainer: new or resumed.
        data: clips by number.
        checkpoint: written every ``save_every`` steps and at the end.
        save_every: in steps.
        workers: processes that read clips; 0 reads them in this one.
        report: told the number of steps done and the losses of the last.
    """
    for batch in _batches(data, trainer, workers):
        losses = trainer.train_step(batch)
        report(trainer.step, losses)
        if trainer.step % save_every == 0 or trainer.step == trainer.schedule.steps:
            trainer.save(checkpoint)


def _batches(data: ClipDataset, trainer: Trainer, workers: int) -> Iterator[list[TrainingClip]]:
    size, steps = trainer.schedule.batch, trainer.schedule.steps
    numbers = [list(range(step * size, (step + 1) * size)) for step in range(trainer.step, steps)]
    loader: DataLoader[Any] = DataLoader(
        data, batch_sampler=numbers, num_workers=workers, collate_fn=list
    )
    yield from loader


def _parameter_groups(
    model: Visolo, backbone_factor: float
) -> Iterator[tuple[Iterator[nn.Parameter], float]]:
    backbone = {id(parameter) for parameter in model.backbone.parameters()}
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    yield (each for each in trained if id(each) in backbone), backbone_factor
    yield (each for each in trained if id(each) not in backbone), 1.0
