"""Does a stream cost more after hours? A step at frame 10,000 against one at frame 100.

    python benchmarks/long_stream.py BUNDLE [--frames 10000] [--backend auto] [--out report.json]

A generated stream, drawn once and played to and fro, so that objects come, go and come back. When
the old session has reached its frame, a young one is brought to frame 100 of the same pictures, and
the two take turns, step by step on one picture, the order changing: what disturbs the machine
disturbs both. Memory is compared within the old session.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from visolo_runtime.bench import resident_mb
from visolo_runtime.session.loading import load
from visolo_runtime.session.session import Session
from visolo_runtime.video.sample_clip import sample_frames

_YOUNG = 100
"""Frame of the young session, and number of pairs of steps."""


def step_ms(session: Session, frame: NDArray[np.uint8]) -> float:
    """Of the next frame."""
    begin = time.perf_counter()
    session.step(frame)
    return (time.perf_counter() - begin) * 1e3


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("bundle")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    drawn = list(sample_frames(120))
    played = drawn + drawn[-2:0:-1]
    period = len(played)
    model = load(options.bundle, options.backend)
    old = model.session(record=False)
    resident: dict[int, float] = {}
    # The young session begins on the picture that the old one has reached.
    frames = -(-options.frames // period) * period
    for number in range(frames + _YOUNG):
        old.step(played[number % period])
        if number in (_YOUNG, options.frames) or number % 1000 == 0:
            resident[number] = resident_mb()
            print(f"frame {number}: {resident[number]:.0f} MB", file=sys.stderr)
    young = model.session(record=False)
    for number in range(_YOUNG):
        young.step(played[number])
    spent: dict[str, list[float]] = {"old": [], "young": []}
    sessions = {"old": old, "young": young}
    for number in range(_YOUNG, 2 * _YOUNG):
        for name in sorted(sessions, reverse=bool(number % 2)):
            spent[name].append(step_ms(sessions[name], played[number % period]))
    ratios = [a / b for a, b in zip(spent["old"], spent["young"], strict=True)]
    report = {
        "backend": model.engines.description,
        "frames": options.frames,
        "step_ms_young": median(spent["young"]),
        "step_ms_old": median(spent["old"]),
        "old_over_young": median(ratios),
        "resident_mb_at_100": resident[_YOUNG],
        "resident_mb_at_end": resident[options.frames],
        "resident_growth_mb": resident[options.frames] - resident[_YOUNG],
        "tracks_begun": old.tracks_begun,
    }
    text = json.dumps(report, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
