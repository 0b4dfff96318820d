"""A training by Ray Train, on as many machines as its cluster has.

    python ray_train.py ytvis2019_r50 /shared/runs/mine --workers 16 --gpu [--set TABLE.NAME=VALUE]

The folder must be one that all machines share. A worker that is lost is replaced, and all go on
from the last checkpoint.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def work(settings: dict[str, Any]) -> None:
    """What each worker does."""
    from visolo_train.learning.recipe import read_recipe
    from visolo_train.learning.team import join
    from visolo_train.learning.training import Training

    recipe = read_recipe(settings["recipe"], settings["set"])
    team = join(recipe.run.device)
    Training(recipe, Path(settings["folder"]), team, resume=True).run()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("recipe")
    parser.add_argument("folder")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--gpu", action="store_true", help="one for each worker")
    parser.add_argument("--failures", type=int, default=5, help="before the training fails")
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_args()
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    TorchTrainer(
        work,
        train_loop_config={
            "recipe": options.recipe, "folder": options.folder, "set": options.set
        },
        scaling_config=ScalingConfig(num_workers=options.workers, use_gpu=options.gpu),
        run_config=RunConfig(failure_config=FailureConfig(max_failures=options.failures)),
    ).fit()  # fmt: skip


if __name__ == "__main__":
    main()
