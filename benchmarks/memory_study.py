"""What memory, lost tracks and the match threshold are worth: a row a setting, on long drawn clips.

    python benchmarks/memory_study.py [MODEL] [--videos 100] [--frames 40] [--seed 77]

Every setting runs on the same videos. Prints a table in Markdown: AP, AP50 and AP75 of tracks, and
IDF1 and HOTA of those with a fair score. Needs the extra ``identity``.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

from visolo_core.config import InferenceConfig
from visolo_runtime import load, shipped_model
from visolo_runtime.runner import RunOptions, run
from visolo_train.drawn_data import drawn_data
from visolo_train.evaluation import TrackCollector, score_tracks
from visolo_train.identity import identity_measures

SETTINGS: dict[str, dict[str, float]] = {
    "as shipped": {},
    "memory slots 0": {"memory_slots": 0},
    "memory slots 1": {"memory_slots": 1},
    "memory slots 3": {"memory_slots": 3},
    "keep every frame": {"keep_every": 1},
    "keep every 10th": {"keep_every": 10},
    "no lost tracks": {"lost_limit": 0},
    "match threshold .2": {"match_threshold": 0.2},
    "match threshold .3": {"match_threshold": 0.3},
    "match threshold .4": {"match_threshold": 0.4},
}


def measure(
    model: Path, changes: dict[str, float], seed: int, videos: int, frames: int
) -> list[float]:
    """AP, AP50, AP75, IDF1 and HOTA of a setting, in percent."""

    def changed(config: InferenceConfig) -> InferenceConfig:
        return replace(config, **changes)  # type: ignore[arg-type]

    opened = load(model, settings=changed, threads=1)
    annotations, clips = drawn_data(seed, videos, frames, (192, 336))
    collector = TrackCollector(opened.labels)
    run(opened, clips, [collector], RunOptions(record=True))
    figures = score_tracks(annotations, collector.tracks).figures
    identity = identity_measures(annotations, collector.tracks)
    found = [figures[name] for name in ("AP", "AP50", "AP75")] + [identity.idf1, identity.hota]
    return [100 * value for value in found]


def main() -> None:
    """Run all settings, two at a time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, nargs="?", default=shipped_model())
    parser.add_argument("--videos", type=int, default=100)
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--seed", type=int, default=77)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    print("| setting | AP | AP50 | AP75 | IDF1 | HOTA |\n|---|---|---|---|---|---|")
    with ProcessPoolExecutor(options.processes) as pool:
        waiting = {
            name: pool.submit(
                measure, options.model, changes, options.seed, options.videos, options.frames
            )
            for name, changes in SETTINGS.items()
        }
        for name, result in waiting.items():
            print(f"| {name} | " + " | ".join(f"{each:.1f}" for each in result.result()) + " |")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
