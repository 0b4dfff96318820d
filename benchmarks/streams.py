"""Compares several streams run together through one set of engines with as many sessions in turn.

    python benchmarks/streams.py BUNDLE BATCHED [--streams 4] [--backend auto]

BUNDLE is exported for one stream, BATCHED with --batch. They take turns in one process, in an order
that alternates from round to round; each round gives a ratio of total frames a second.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from statistics import median

from visolo_runtime.session.loading import Model, load
from visolo_runtime.session.streams import Streams
from visolo_runtime.video.frames import Picture
from visolo_runtime.video.sample_clip import sample_frames


def in_turn(model: Model, frames: Sequence[Picture], count: int) -> float:
    """Total frames a second of sessions that take turns."""
    sessions = [model.session(record=False) for _ in range(count)]
    begin = time.perf_counter()
    for frame in frames:
        for session in sessions:
            _ = session.step(frame).masks
    return count * len(frames) / (time.perf_counter() - begin)


def together(model: Model, frames: Sequence[Picture], count: int) -> float:
    """Total frames a second of streams that run together."""
    with Streams(model, [None] * count) as streams:
        begin = time.perf_counter()
        for frame in frames:
            for instances in streams.step(dict.fromkeys(range(count), frame)).values():
                _ = instances.masks
        return count * len(frames) / (time.perf_counter() - begin)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("bundle")
    parser.add_argument("batched")
    parser.add_argument("--streams", type=int, default=4)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--precision", default="")
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    frames = list(sample_frames(options.frames))
    one, several = (
        load(path, options.backend, precision=options.precision)
        for path in (options.bundle, options.batched)
    )
    ways: dict[str, Callable[[], float]] = {
        "in_turn": lambda: in_turn(one, frames, options.streams),
        "together": lambda: together(several, frames, options.streams),
    }
    fps: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(options.rounds):
        for name in sorted(ways, reverse=bool(number % 2)):
            fps[name].append(ways[name]())
        print(f"round {number + 1}: {fps['in_turn'][-1]:.1f} FPS in turn, "
              f"{fps['together'][-1]:.1f} together", file=sys.stderr)  # fmt: skip
    ratios = [b / a for a, b in zip(fps["in_turn"], fps["together"], strict=True)]
    medians = {name: median(rates) for name, rates in fps.items()}
    print(json.dumps({
        "backend": several.engines.description, "streams": options.streams, "fps": medians,
        "ratios": ratios, "ratio": median(ratios),
    }, indent=2))  # fmt: skip


if __name__ == "__main__":
    main()
