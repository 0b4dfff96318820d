"""The training loop, top to bottom: clips in, weights out, exact resume.

One checkpoint holds everything that the next step depends on. Clips are numbered, so no state of a
random generator is part of it. A batch has the same clips however many processes share it and
however many turns they take.
"""

from __future__ import annotations

import contextlib
import math
import signal
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset

from visolo_core.errors import VisoloError
from visolo_core.files import replaced
from visolo_core.nn import ClipOutput, Visolo
from visolo_core.nn.mobilenet import LATERAL
from visolo_core.nn.tensor_files import load_tensors
from visolo_train.learning.clips import TrainingClip
from visolo_train.learning.losses import ClipTargets, Losses, clip_losses, loss_counts
from visolo_train.learning.targets import Extent, assign_cells
from visolo_train.learning.team import Team

Autocast = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class Schedule:
    """How weights are updated, step by step.

    Raises:
        VisoloError: if a number is out of range.
    """

    __pydantic_config__ = {"extra": "forbid", "allow_inf_nan": False}  # noqa: RUF012

    steps: int
    batch: int
    """Clips of a step, over all processes."""
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
    """How far an object's central region reaches, see ``visolo_train.learning.targets``."""
    category_weight: float = 1.0
    """Of the category loss, over the paper's."""
    tracking_weight: float = 1.0
    """Of the tracking loss, likewise."""
    departed: bool = False
    """Whether an object learns to match nothing in a later frame without it, so that another that
    comes in its place is not taken for it; the official code teaches nothing there."""
    precision: Autocast = "float32"
    """Of convolutions and products (autocast); weights and losses stay float32."""
    accumulate: int = 1
    """Turns in which a process takes its share of a batch; more turns need less memory."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "accumulate"):
            if getattr(self, name) < 1:
                raise VisoloError(f"{name} must be 1 or more, not {getattr(self, name)}")
        for name in ("learning_rate", "clip_norm"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise VisoloError(f"{name} must be a positive number, not {getattr(self, name)}")
        for name in (
            "backbone_factor", "weight_decay", "warm_up", "category_weight", "tracking_weight",
        ):  # fmt: skip
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise VisoloError(f"{name} must be 0 or more, not {getattr(self, name)}")
        if not 0 <= self.average < 1:
            raise VisoloError(f"average must lie in 0 to 1, 1 excluded, not {self.average}")

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0, as a factor of ``learning_rate``."""
        if step < self.warm_up:
            return (step + 1) / self.warm_up
        if self.drops:
            return float(0.1 ** sum(step >= drop for drop in self.drops))
        done = (step - self.warm_up) / max(1, self.steps - self.warm_up)
        return 0.5 * (1 + math.cos(math.pi * done))


class Trainer:
    """Weights, optimiser and position in the schedule.

    Args:
        model: the network; its frozen parameters have ``requires_grad`` False.
        schedule: how it is trained.
        team: the processes that share a batch; all hold the same weights.

    Raises:
        VisoloError: if a batch cannot be shared evenly.
    """

    def __init__(self, model: Visolo, schedule: Schedule, team: Team | None = None) -> None:
        self.team = team or Team()
        parts = self.team.size * schedule.accumulate
        if schedule.batch % parts:
            raise VisoloError(
                f"a batch of {schedule.batch} clips cannot be shared by {self.team.size} processes "
                f"in {schedule.accumulate} turns: make it a multiple of {parts}"
            )
        self.model = model.to(self.team.device)
        self.schedule = schedule
        self.step = 0
        self._network: nn.Module = self.model
        if self.team.size > 1:
            self._network = DistributedDataParallel(self.model)
        groups = [
            {"params": list(part), "lr": schedule.learning_rate * factor, "factor": factor}
            for part, factor in _parameter_groups(model, schedule.backbone_factor)
        ]
        self._optimiser = torch.optim.AdamW(groups, weight_decay=schedule.weight_decay)
        self._scaler = torch.amp.GradScaler(
            self.team.device.type, enabled=schedule.precision == "float16"
        )
        self.averaged: dict[str, Tensor] = {}
        if schedule.average:
            self.averaged = {name: each.clone() for name, each in model.state_dict().items()}

    def train_step(self, clips: list[TrainingClip]) -> Losses:
        """Update the weights with one batch.

        Args:
            clips: this process's share of the batch.

        Returns:
            the losses of the whole batch.

        Raises:
            VisoloError: if a loss or gradient is not a number; the parameters are then unchanged.
        """
        self.model.train()
        for group in self._optimiser.param_groups:
            rate = self.schedule.rate(self.step)
            group["lr"] = self.schedule.learning_rate * group["factor"] * rate
        self._optimiser.zero_grad(set_to_none=True)
        losses = self._gradients(clips)
        self._scaler.unscale_(self._optimiser)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.schedule.clip_norm)
        # A scaler detects gradients that float16 cannot hold, and skips the step.
        if not bool(norm.isfinite()) and not self._scaler.is_enabled():
            raise self._not_a_number(losses, "gradient")
        self._scaler.step(self._optimiser)
        self._scaler.update()
        self._average()
        self.step += 1
        return losses

    def _gradients(self, clips: list[TrainingClip]) -> Losses:
        """Leave the gradients of the whole batch in the parameters, and return its losses."""
        turns = self.schedule.accumulate
        size = len(clips) // turns
        parts = [clips[at * size : (at + 1) * size] for at in range(turns)]
        targets = [self._targets(part) for part in parts]
        counts = torch.stack([loss_counts(each) for each in targets]).sum(dim=0)
        counts = self.team.sum(counts)
        total = torch.zeros(3, device=self.team.device)
        for turn, (part, target) in enumerate(zip(parts, targets, strict=True)):
            with self._without_exchange(turn < turns - 1):
                losses = self._weighted(clip_losses(self._outputs(part), target, counts))
                # Processes average their gradients; the losses are sums over all of them.
                scaled = self._scaler.scale(losses.total * self.team.size)
                scaled.backward()  # type: ignore[no-untyped-call]
            total += torch.stack([each.detach() for each in losses])
        losses_of_all = Losses(*self.team.sum(total).unbind())
        if not bool(losses_of_all.total.isfinite()):
            raise self._not_a_number(losses_of_all, "loss")
        return losses_of_all

    def _weighted(self, losses: Losses) -> Losses:
        category, tracking = self.schedule.category_weight, self.schedule.tracking_weight
        return Losses(losses.category * category, losses.mask, losses.tracking * tracking)

    def _outputs(self, clips: list[TrainingClip]) -> ClipOutput:
        frames = torch.stack([clip.frames for clip in clips]).to(self.team.device).float()
        kind, precision = self.team.device.type, self.schedule.precision
        with torch.autocast(kind, getattr(torch, precision), enabled=precision != "float32"):
            output: ClipOutput = self._network(frames)
        return ClipOutput(*(each.float() for each in output))

    def _without_exchange(self, postponed: bool) -> contextlib.AbstractContextManager[Any]:
        """Keep gradients in this process until the last turn exchanges them all."""
        if postponed and isinstance(self._network, DistributedDataParallel):
            return self._network.no_sync()
        return contextlib.nullcontext()

    def _not_a_number(self, losses: Losses, what: str) -> VisoloError:
        named = ", ".join(f"{name} {value.item():.3g}" for name, value in losses._asdict().items())
        return VisoloError(
            f"the {what} of step {self.step} is not a number ({named}): lower the learning rate "
            "and continue from the last checkpoint"
        )

    def best_weights(self) -> dict[str, Tensor]:
        """The averaged weights if an average is kept, otherwise the current ones."""
        return self.averaged or self.model.state_dict()

    def save(self, path: Path) -> None:
        """Write everything that the next step depends on, atomically."""
        state = {
            "step": self.step,
            "schedule": asdict(self.schedule),
            "model": self.model.state_dict(),
            "averaged": self.averaged,
            "optimiser": self._optimiser.state_dict(),
            "scaler": self._scaler.state_dict(),
        }
        with replaced(path) as temporary:
            torch.save(state, temporary)

    def resume(self, path: Path) -> None:
        """Continue from what :meth:`save` wrote.

        Raises:
            VisoloError: if the file is not such a checkpoint, or of another schedule or network.
        """
        state = load_tensors(path)
        theirs, ours = state.get("schedule"), asdict(self.schedule)
        if not isinstance(theirs, dict):
            raise VisoloError(f"'{path}' was not written by a training")
        changed = [name for name in ours if theirs.get(name) != ours[name]]
        if changed:
            differences = ", ".join(
                f"{name} {theirs.get(name)}, not {ours[name]}" for name in changed
            )
            raise VisoloError(
                f"'{path}' was written by a training with another schedule: {differences}"
            )
        try:
            self.model.load_state_dict(state["model"])
            self._optimiser.load_state_dict(state["optimiser"])
        except (RuntimeError, ValueError) as error:
            raise VisoloError(f"'{path}' belongs to another network") from error
        self._scaler.load_state_dict(state["scaler"])
        device = self.team.device
        self.averaged = {name: each.to(device) for name, each in state["averaged"].items()}
        self.step = state["step"]

    def _targets(self, clips: list[TrainingClip]) -> ClipTargets:
        grid, extent, device = self.model.config.grid, self.schedule.extent, self.team.device
        masks = tuple(clip.masks.to(device) for clip in clips)
        classes = tuple(clip.classes.to(device) for clip in clips)
        owner = torch.stack([assign_cells(each, grid, extent) for each in masks])
        unsure = tuple(clip.unsure.to(device) for clip in clips)
        return ClipTargets(owner, classes, masks, unsure, self.schedule.departed)

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
    data: Dataset[TrainingClip],
    checkpoint: Path,
    save_every: int,
    workers: int = 0,
    report: Callable[[int, Losses], None] = lambda *_: None,
    stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Train to the end of the schedule, from the trainer's current step.

    Args:
        trainer: new or resumed.
        data: endless clips, by number.
        checkpoint: written every ``save_every`` steps and at the end.
        save_every: in steps.
        workers: processes that read clips; 0 reads them in this one.
        report: called with the number of steps done and the losses of the last step.
        stop: called after every step and its report, in every process: whether to save and stop.

    Returns:
        whether the end was reached.
    """
    steps, team = trainer.schedule.steps, trainer.team
    for batch in _batches(data, trainer, workers):
        losses = trainer.train_step(batch)
        saved = trainer.step % save_every == 0 or trainer.step == steps
        if saved:
            _save(trainer, checkpoint)
        report(trainer.step, losses)
        # If one process is to stop, all stop after the same step.
        if bool(team.sum(torch.tensor(float(stop()), device=team.device))):
            if not saved:
                _save(trainer, checkpoint)
            break
    return trainer.step == steps


def _save(trainer: Trainer, checkpoint: Path) -> None:
    if trainer.team.leads:
        trainer.save(checkpoint)
    trainer.team.wait()


def _batches(
    data: Dataset[TrainingClip], trainer: Trainer, workers: int
) -> Iterator[list[TrainingClip]]:
    """This process's share of every remaining batch."""
    size, team = trainer.schedule.batch, trainer.team
    share = size // team.size
    firsts = (
        step * size + team.rank * share for step in range(trainer.step, trainer.schedule.steps)
    )
    loader: DataLoader[Any] = DataLoader(
        _ClipsOrErrors(data),
        batch_sampler=(list(range(first, first + share)) for first in firsts),
        num_workers=workers,
        collate_fn=list,
        worker_init_fn=_ignore_interrupt,
    )
    for batch in loader:
        for clip in batch:
            if isinstance(clip, VisoloError):
                raise clip
        yield batch


class _ClipsOrErrors(Dataset[TrainingClip | VisoloError]):
    """Clips, or the error as a value: a raised exception would reach the training process wrapped
    in the reading process's traceback."""

    def __init__(self, data: Dataset[TrainingClip]) -> None:
        self._data = data

    def __getitem__(self, number: int) -> TrainingClip | VisoloError:
        try:
            return self._data[number]
        except VisoloError as error:
            return error


def _ignore_interrupt(worker: int) -> None:
    """Ctrl-C reaches every process; the training process decides when its readers stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _parameter_groups(
    model: Visolo, backbone_factor: float
) -> Iterator[tuple[Iterator[nn.Parameter], float]]:
    # What begins with random weights, or none, learns at the whole rate.
    backbone = {
        id(parameter)
        for name, parameter in model.backbone.named_parameters()
        if not name.startswith(LATERAL)
    }
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    yield (each for each in trained if id(each) in backbone), backbone_factor
    yield (each for each in trained if id(each) not in backbone), 1.0
