"""What a training shows while it works: a bar or lines on standard error, and TensorBoard."""

from __future__ import annotations

import time
from collections import deque
from datetime import timedelta
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from visolo_train.evaluation.scoring import Score
from visolo_train.learning.losses import Losses
from visolo_train.learning.training import WEIGHTS, Training

_WINDOW = 50  # steps that speed and losses are averaged over
_UNUSUAL = 2  # first steps of a process, which take longer
_MEASURED = 5  # steps after them, from which the whole time is estimated


class TrainProgress:
    """Shows the progress of a training; only the leading process prints.

    Args:
        training: ready to run.
        estimate: say after a few steps how long all of them will take.
    """

    def __init__(self, training: Training, estimate: bool = False) -> None:
        self._training = training
        self._estimate = estimate
        self._score_seconds = 0.0
        self._leads = training.team.leads
        self._steps = training.recipe.schedule.steps
        self._console = Console(stderr=True, highlight=False)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            console=self._console,
            transient=True,
            disable=not (self._leads and self._console.is_terminal),
        )
        self._first = done = training.trainer.step
        self._task = self._bar.add_task("training", total=self._steps, completed=done, figures="")
        self._times: deque[float] = deque(maxlen=_WINDOW)
        self._losses: deque[Losses] = deque(maxlen=_WINDOW)
        self._writer = self._tensorboard()

    def __enter__(self) -> TrainProgress:
        self._bar.start()
        self._times.append(time.monotonic())
        step = self._training.trainer.step
        for note in self._training.notes if self._leads else []:
            self._print(note)
        if self._leads and step:
            self._print(f"resuming after step {step}")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()
        if self._writer:
            self._writer.close()

    def step(self, step: int, losses: Losses) -> None:
        """A step is done."""
        if not self._leads:
            return
        self._times.append(time.monotonic())
        self._losses.append(losses)
        if self._estimate and step - self._first == _UNUSUAL + _MEASURED:
            self._say_how_long()
        last = step == self._steps
        if step % self._training.recipe.run.log_every and not last:
            self._bar.update(self._task, completed=step)
            return
        means = {
            name: sum(getattr(each, name).item() for each in self._losses) / len(self._losses)
            for name in ("total", *losses._fields)
        }
        seconds = (self._times[-1] - self._times[0]) / max(1, len(self._times) - 1)
        left = timedelta(seconds=round(seconds * (self._steps - step)))
        figures = " ".join(f"{name} {value:.3f}" for name, value in means.items())
        figures = f"{figures}  {seconds:.2f} s per step, {left} left"
        self._bar.update(self._task, completed=step, figures=figures)
        if not self._console.is_terminal:
            self._print(f"step {step} of {self._steps}: {figures}")
        if self._writer:
            for name, value in means.items():
                self._writer.add_scalar(f"loss/{name}", value, step)
            rate = self._training.recipe.schedule
            self._writer.add_scalar("learning_rate", rate.learning_rate * rate.rate(step), step)

    def scored(self, step: int, score: Score) -> None:
        """The network was scored."""
        figures = score.figures
        self._score_seconds = time.monotonic() - self._times[-1]
        self._print(f"step {step}: AP {100 * figures['AP']:.1f}, AP50 {100 * figures['AP50']:.1f}")
        self._times.clear()  # scoring takes time that is not the steps'
        self._times.append(time.monotonic())
        if self._writer:
            for name, value in figures.items():
                self._writer.add_scalar(f"score/{name}", value, step)

    def conclude(self) -> None:
        """The training is done: which weights it kept."""
        selection, folder = self._training.selection, self._training.folder
        if selection:
            step, ap = selection.best
            self._print(f"the best weights are those after step {step}: AP {100 * ap:.1f}")
            self._print(f"next: visolo export {folder / WEIGHTS} -o {folder.name}.visolo")

    def _say_how_long(self) -> None:
        """An estimate from the steps measured and the score before them."""
        recipe = self._training.recipe
        step_seconds = (self._times[-1] - self._times[-1 - _MEASURED]) / _MEASURED
        steps = self._steps - self._training.trainer.step
        scores = -(-steps // recipe.validation.every) if recipe.validation.every else 0
        seconds = steps * step_seconds + scores * self._score_seconds
        self._print(
            f"about {_spoken(seconds)} from here: {steps} steps of {step_seconds:.2f} s and "
            f"{scores} scores of {self._score_seconds:.1f} s"
            + (", fewer if they stop rising" if recipe.validation.patience else "")
        )

    def _print(self, sentence: str) -> None:
        self._console.print(sentence, markup=False, soft_wrap=True)

    def _tensorboard(self) -> Any:
        if not (self._leads and self._training.recipe.run.tensorboard):
            return None
        from torch.utils.tensorboard import SummaryWriter

        folder = str(self._training.folder / "tensorboard")
        # Steps that an interrupted training logged after its last checkpoint are logged again.
        return SummaryWriter(folder, purge_step=self._training.trainer.step + 1)


def _spoken(seconds: float) -> str:
    """A duration, roughly.

    >>> _spoken(20), _spoken(725), _spoken(9000)
    ('a minute', '12 minutes', '2.5 hours')
    """
    minutes = seconds / 60
    if minutes < 1.5:
        return "a minute"
    return f"{minutes:.0f} minutes" if minutes < 100 else f"{minutes / 60:.1f} hours"
