"""Measures how many training clips a second a data set yields, and what each part of a clip costs.

    python benchmarks/data_speed.py DATA.json [--images DIR] [--clips 60] [--workers 0 1 2]

Clips are those of the paper's recipe: three frames, short side 360 or 480, rotated by up to 15
degrees, cropped to 352x624. Prints two tables in Markdown: the parts of a clip in one process, and
clips a second by number of worker processes.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Subset

import visolo_train.learning.clips as clips_module
from visolo_train.data.annotations import read_annotations
from visolo_train.learning.augmentation import Augmentation
from visolo_train.learning.clips import AnnotatedClips, Sampling

PAPER_AUGMENTATION = Augmentation((352, 624), short_sides=(360, 480), rotation=15.0)


@dataclass
class Stopwatch:
    """Seconds that calls took, by name."""

    seconds: dict[str, float] = field(default_factory=dict)

    def around(self, name: str, function: Any) -> Any:
        def timed(*arguments: Any) -> Any:
            begin = time.perf_counter()
            result = function(*arguments)
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begin
            return result

        return timed


def parts(data: AnnotatedClips, plain: AnnotatedClips, count: int) -> dict[str, float]:
    """Milliseconds per clip that each part takes, in this process."""
    watch = Stopwatch()
    objects, augment = vars(clips_module)["_objects"], vars(clips_module)["augment"]
    try:
        vars(clips_module)["_objects"] = watch.around("masks of run lengths", objects)
        vars(clips_module)["augment"] = watch.around("augmentation", augment)
        for number in range(count):
            watch.around("all", data.__getitem__)(number)
        vars(clips_module)["augment"] = watch.around("without rotation", augment)
        for number in range(count):
            plain[number]
    finally:
        vars(clips_module).update(_objects=objects, augment=augment)
    clip_ms = {name: 1000 * seconds / count for name, seconds in watch.seconds.items()}
    clip_ms["masks of run lengths"] /= 2  # both passes decoded them
    whole, all_augmentation = clip_ms["all"], clip_ms["augmentation"]
    return {
        "reading images": whole - all_augmentation - clip_ms["masks of run lengths"],
        "masks of run lengths": clip_ms["masks of run lengths"],
        "mirror, resize, crop": clip_ms["without rotation"],
        "rotation": all_augmentation - clip_ms["without rotation"],
        "all": whole,
    }


def rate(data: AnnotatedClips, workers: int, count: int) -> float:
    """Clips a second from a number of worker processes, without the time to start them."""
    options: dict[str, Any] = {"multiprocessing_context": "fork"} if workers else {}
    first = 4 * max(1, workers)
    chosen = Subset(data, range(count + first))
    loader = iter(DataLoader(chosen, batch_size=None, num_workers=workers, **options))
    for _ in range(first):
        next(loader)
    begin = time.perf_counter()
    for _ in loader:
        pass
    return count / (time.perf_counter() - begin)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 1, 2])
    options = parser.parse_args()
    torch.set_num_threads(1)
    annotations = read_annotations(options.data)
    images = options.images or options.data.parent / "JPEGImages"

    def clips(augmentation: Augmentation) -> AnnotatedClips:
        return AnnotatedClips(annotations, images, annotations.labels, Sampling(), augmentation, 0)

    data = clips(PAPER_AUGMENTATION)
    print("| part of a clip | ms |\n|---|---|")
    for name, milliseconds in parts(
        data, clips(replace(PAPER_AUGMENTATION, rotation=0.0)), options.clips
    ).items():
        print(f"| {name} | {milliseconds:.1f} |")
    print("\n| worker processes | clips/s |\n|---|---|")
    for workers in options.workers:
        print(f"| {workers or 'none'} | {rate(data, workers, options.clips):.1f} |")


if __name__ == "__main__":
    main()
