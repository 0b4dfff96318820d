"""``visolo train``: a network trained from a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from visolo.commands.options import EXIT_INTERRUPTED


def train(
    recipe: Annotated[
        str,
        typer.Argument(
            help="coco_r50, ytvis2019_r50, ytvis2021_r50, ovis_r50, lite_synth, everyday, or a "
            ".toml file."
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Folder of the training; by default runs/RECIPE."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue where the training in the folder stopped.")
    ] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="TABLE.NAME=VALUE",
            help="Change a setting, such as schedule.steps=200; may be repeated.",
        ),
    ] = None,
) -> None:
    """Train a network from a recipe.

    Ctrl-C finishes the current step, saves and exits; --resume continues with the next step. For
    several GPUs: torchrun --nproc-per-node N --no-python visolo train RECIPE.
    """
    from visolo.commands.train_progress import TrainProgress
    from visolo_runtime.stop_flag import StopFlag
    from visolo_train.learning.recipe import read_recipe
    from visolo_train.learning.team import join
    from visolo_train.learning.training import WEIGHTS, Training, set_threads

    training_recipe = read_recipe(recipe, settings or [])
    folder = output or Path("runs") / Path(recipe).stem
    set_threads(training_recipe.run.threads)
    team = join(training_recipe.run.device)
    interrupt = StopFlag()
    try:
        training = Training(training_recipe, folder, team, resume)
        with interrupt.on_interrupt(), TrainProgress(training) as progress:
            finished = training.run(progress.step, progress.scored, lambda: interrupt.is_set)
    finally:
        team.leave()
    if not finished:
        raise typer.Exit(EXIT_INTERRUPTED)
    if team.leads:
        typer.echo(folder / WEIGHTS)
