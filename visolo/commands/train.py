"""``visolo train``: a network trained from a recipe, or on a user's own classes without one."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from visolo.commands.options import CrowdObjects
from visolo_core.errors import VisoloError


def train(
    recipe: Annotated[
        str | None,
        typer.Argument(
            help="coco_r50, ytvis2019_r50, ytvis2021_r50, ovis_r50, lite_synth, everyday, or a "
            ".toml file.",
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="NETWORK",
            help="Instead of a recipe: go on from everyday, shapes, weights (.safetensors) or an "
            "official checkpoint (.pth), with settings that suit the data.",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Of --from: your annotations, in YouTube-VIS or COCO format (json)."),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(help="Folder of the frames of --data; by default JPEGImages beside the json."),
    ] = None,
    backgrounds: Annotated[
        Path | None,
        typer.Option(help="Folder of other pictures, which show none of the classes of --data."),
    ] = None,
    classes: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[,NAME...]",
            help="Classes of --data to learn; by default all that have an object.",
        ),
    ] = None,
    empty_frames: Annotated[
        bool,
        typer.Option(
            "--empty-frames", help="Keep frames of --data without a mask: nothing is in them."
        ),
    ] = False,
    crowd_objects: CrowdObjects = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="Folder of the training; by default runs/ and the name of the recipe or the data.",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue where the training in the folder stopped.")
    ] = False,
    with_start: Annotated[
        bool,
        typer.Option(
            "--with-start",
            help="If the recipe goes on from others that are not trained yet, train them first, "
            "in runs/, with the same data.",
        ),
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
    """Train a network from a recipe, or with --from and --data on your own classes.

    Ctrl-C finishes the current step, saves and exits; --resume continues with the next step. For
    several GPUs: torchrun --nproc-per-node N --no-python visolo train RECIPE.
    """
    others = images or backgrounds or classes or empty_frames or crowd_objects
    _check_use(recipe, start, data, others, with_start)

    from visolo.commands.train_progress import TrainProgress
    from visolo_runtime.stop_flag import StopFlag
    from visolo_train.data.own_data import read_own_data
    from visolo_train.learning.own_classes import own_training, prepared
    from visolo_train.learning.recipe import read_recipe
    from visolo_train.learning.start import missing_starts
    from visolo_train.learning.team import join
    from visolo_train.learning.training import WEIGHTS, Training, set_threads

    folder = output or Path("runs") / (data or Path(recipe or "")).stem
    own = None
    if start is not None and data is not None:
        named = [name for each in classes or [] for name in each.split(",")]
        own_data = read_own_data(data, images, named, empty_frames, crowd_objects)
        own = own_training(start, own_data, folder, backgrounds, settings or [])
    last = own.recipe if own else read_recipe(recipe or "", settings or [])
    stages = [*(missing_starts(last, settings or []) if with_start else ()), (folder, last)]
    team = join(last.run.device)
    interrupt = StopFlag()
    try:
        for at, (place, each) in enumerate(stages):
            if team.leads and len(stages) > 1:
                typer.echo(f"training {at + 1} of {len(stages)}: {place}", err=True)
            set_threads(each.run.threads)
            with prepared(own, folder) if own and team.leads else nullcontext():
                team.wait()
                training = Training(each, place, team, resume)
            training.notes[:0] = own.notes if own else ()
            with (
                interrupt.on_interrupt(),
                TrainProgress(training, estimate=own is not None) as progress,
            ):
                finished = training.run(progress.step, progress.scored, lambda: interrupt.is_set)
            if not finished:
                break
            team.wait()  # until the weights are written, with which the next one starts
    finally:
        team.leave()
    if not finished:
        raise typer.Exit(interrupt.exit_status)
    if team.leads:
        progress.conclude()
        typer.echo(folder / WEIGHTS)


def _check_use(
    recipe: str | None, start: str | None, data: Path | None, others: object, with_start: bool
) -> None:
    """Make sure that there is a recipe, or a network and data instead.

    Raises:
        VisoloError: if not.
    """
    if recipe is None and start is None and data is None:
        raise VisoloError(
            "name a recipe (visolo train lite_synth), or a network and your data: "
            "visolo train --from everyday --data my.json"
        )
    if recipe is not None and (start is not None or data is not None):
        raise VisoloError(
            f"--from and --data take the place of a recipe: leave out '{recipe}', or them"
        )
    if (start is None) != (data is None):
        missing = "--data FILE" if data is None else "--from NETWORK, such as --from everyday"
        raise VisoloError(f"--from and --data go together: add {missing}")
    if recipe is None and with_start:
        raise VisoloError("--with-start belongs to a recipe, such as visolo train everyday")
    if recipe is not None and others:
        raise VisoloError(
            "--images, --backgrounds, --classes, --empty-frames and --crowd-objects belong to "
            "--data; --set changes a recipe"
        )
