"""Measures what memory, lost tracks and the match threshold are worth on long generated clips.

    python benchmarks/memory_study.py [BUNDLE] [--videos 100] [--frames 36] [--seed 77]
    python benchmarks/memory_study.py BUNDLE --data INSTANCES.json [--pictures FOLDER]
    python benchmarks/memory_study.py --read WEIGHTS [--videos 20] [--data INSTANCES.json]

Every setting runs on the same videos: drawn shapes, or those of a data set. Prints a table in
Markdown, one row per setting: AP, AP50 and AP75 of tracks, and IDF1 and HOTA of those with a fair
score. Needs the extra ``identity``. With ``--read``, prints how a network reads its memory: from
which cells, and how much the result differs between cells.
"""

from __future__ import annotations

import argparse
import math
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from visolo_core.config import InferenceConfig
from visolo_core.nn.checkpoint import load_checkpoint
from visolo_core.nn.memory import Memory
from visolo_runtime.models.shipped import shipped_model
from visolo_runtime.runner import RunOptions, run
from visolo_runtime.session.loading import load
from visolo_runtime.sources.clip import Clip
from visolo_runtime.sources.opening import open_source
from visolo_runtime.video.resizing import resize_frame
from visolo_train.data.annotations import Annotations, read_annotations
from visolo_train.data.drawn_data import drawn_data
from visolo_train.evaluation.identity import identity_measures
from visolo_train.evaluation.scoring import TrackCollector, score_tracks

SETTINGS: dict[str, dict[str, float]] = {
    "as shipped (9 slots, every 5th kept, threshold .1)": {},
    "0 slots": {"memory_slots": 0},
    "1 slot": {"memory_slots": 1},
    "3 slots": {"memory_slots": 3},
    "3 slots, every frame kept": {"memory_slots": 3, "keep_every": 1},
    "3 slots, every 10th kept": {"memory_slots": 3, "keep_every": 10},
    "9 slots, every frame kept": {"keep_every": 1},
    "9 slots, every 10th kept": {"keep_every": 10},
    "no lost tracks": {"lost_limit": 0},
    "return threshold .2": {"return_threshold": 0.2},
    "return threshold .3": {"return_threshold": 0.3},
    "return threshold .7": {"return_threshold": 0.7},
    "track score power 0": {"track_score_power": 0.0},
    "track score power .25": {"track_score_power": 0.25},
    "track score power .5": {"track_score_power": 0.5},
    "track score power .75": {"track_score_power": 0.75},
    "track score power 1": {"track_score_power": 1.0},
    "track score power 2": {"track_score_power": 2.0},
    "match threshold .2": {"match_threshold": 0.2},
    "match threshold .3": {"match_threshold": 0.3},
    "match threshold .4": {"match_threshold": 0.4},
}


@dataclass(frozen=True)
class Study:
    """The videos."""

    seed: int
    videos: int
    frames: int
    data: Path | None
    """Of a data set, instead of drawn ones."""
    pictures: Path | None

    def open(self, size: tuple[int, int]) -> tuple[Annotations, list[Clip]]:
        """Annotations and clips, drawn ones of a size (H, W)."""
        if self.data is None:
            return drawn_data(self.seed, self.videos, self.frames, size)
        return read_annotations(self.data), open_source(str(self.data), self.pictures)


def measure_setting(model: Path, changes: dict[str, float], study: Study) -> list[float]:
    """Measure AP, AP50, AP75, IDF1 and HOTA of a setting, in percent."""

    def changed(config: InferenceConfig) -> InferenceConfig:
        return replace(config, **changes)  # type: ignore[arg-type]

    opened = load(model, settings=changed, threads=1)
    annotations, clips = study.open((192, 336))
    collector = TrackCollector(opened.labels)
    run(opened, clips, [collector], RunOptions(record=True))
    figures = score_tracks(annotations, collector.tracks).figures
    identity = identity_measures(annotations, collector.tracks)
    ap = [figures[name] for name in ("AP", "AP50", "AP75")]
    return [100 * value for value in (*ap, identity.idf1, identity.hota)]


@torch.no_grad()
def read_statistics(weights: Path, study: Study) -> dict[str, float]:
    """Means over the cells of all frames but the first two of each video."""
    model = load_checkpoint(weights).build().eval()
    statistics: dict[str, list[float]] = {}

    def add(query: Tensor, keys: Tensor, values: Tensor, valid: Tensor) -> None:
        cells = keys.shape[3]
        kept = valid[0]
        shares = Memory.attention(query, keys[:, kept], valid[:, kept])[0]  # [M S, S]
        entropy = -(shares * shares.clamp_min(1e-30).log()).sum(dim=0)
        values_read = Memory.read(query, keys, values, valid)[0]
        common = values_read.mean(dim=-1, keepdim=True)
        by_frame = shares.view(-1, cells, cells)
        same = by_frame[-1].diagonal()
        for name, number in {
            "cells that make up half of a read": shares.sort(dim=0, descending=True)
            .values.cumsum(dim=0).lt(0.5).sum(dim=0).float().mean() + 1,
            "cells in memory": shares.new_tensor(float(len(shares))),
            "entropy, as a share of that of a uniform read":
            entropy.mean() / math.log(len(shares)),
            "weight of the cell itself in the newest frame": same.mean(),
            "share of the read (sum of squares) that is the same for all cells":
            common.square().sum() * cells / values_read.square().sum(),
        }.items():  # fmt: skip
            statistics.setdefault(name, []).append(float(number))

    def read(query: Tensor, keys: Tensor, values: Tensor, valid: Tensor) -> Tensor:
        if int(valid.sum()) > 1:
            add(query, keys, values, valid)
        return Memory.read(query, keys, values, valid)

    vars(model.memory)["read"] = read
    _, clips = study.open(model.config.input_size)
    for clip in islice(clips, study.videos):
        state = model.begin(9)
        for picture in clip.pictures():
            frame = resize_frame(picture, model.config.input_size)
            image = torch.from_numpy(frame).permute(2, 0, 1)[None].float()
            _, state = model.step(image, state)
    return {name: sum(each) / len(each) for name, each in statistics.items()}


def main() -> None:
    """Run all settings, several at a time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, nargs="?", default=shipped_model())
    parser.add_argument("--videos", type=int, default=100)
    parser.add_argument("--frames", type=int, default=36)
    parser.add_argument("--seed", type=int, default=77)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", default="", help="only settings whose name contains this")
    parser.add_argument("--read", type=Path, metavar="WEIGHTS", help="print how memory is read")
    parser.add_argument("--data", type=Path, help="json of videos, instead of drawn ones")
    parser.add_argument("--pictures", type=Path, help="folder of its frames")
    options = parser.parse_args()
    study = Study(options.seed, options.videos, options.frames, options.data, options.pictures)
    if options.read:
        for name, value in read_statistics(options.read, study).items():
            print(f"| {name} | {value:.3g} |")
        return
    print("| setting | AP | AP50 | AP75 | IDF1 | HOTA |\n|---|---|---|---|---|---|")
    with ProcessPoolExecutor(options.processes) as pool:
        waiting = {
            name: pool.submit(measure_setting, options.model, changes, study)
            for name, changes in SETTINGS.items()
            if options.only in name
        }
        for name, result in waiting.items():
            print(f"| {name} | " + " | ".join(f"{each:.1f}" for each in result.result()) + " |")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
