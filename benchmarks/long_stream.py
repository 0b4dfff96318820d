"""Measures whether a stream costs more after hours: a step at frame 10,000 against one at 100.

    python benchmarks/long_stream.py BUNDLE [--frames 10000] [--backend auto] [--out report.json]

The stream is generated once and played forwards and backwards, so that objects come, go and come
back. When the old session has reached its frame, a young one is run to frame 100 of the same
images. The two then take turns on each image, in alternating order, so that whatever disturbs the
machine disturbs both. Memory is compared within the old session.
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
"""Frame at which the young session is measured, and the number of pairs of steps."""


def step_ms(session: Session, frame: NDArray[np.uint8]) -> float:
    """Milliseconds of a step on a frame."""
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
    forwards = list(sample_frames(120))
    images = forwards + forwards[-2:0:-1]
    period = len(images)
    model = load(options.bundle, options.backend)
    old = model.session(record=False)
    resident: dict[int, float] = {}
    # The young session begins on the image that the old one has reached.
    frames = -(-options.frames // period) * period
    for number in range(frames + _YOUNG):
        old.step(images[number % period])
        if number in (_YOUNG, options.frames) or number % 1000 == 0:
            resident[number] = resident_mb()
            print(f"frame {number}: {resident[number]:.0f} MB", file=sys.stderr)
    young = model.session(record=False)
    for number in range(_YOUNG):
        young.step(images[number])
    times_ms: dict[str, list[float]] = {"old": [], "young": []}
    sessions = {"old": old, "young": young}
    for number in range(_YOUNG, 2 * _YOUNG):
        for name in sorted(sessions, reverse=bool(number % 2)):
            times_ms[name].append(step_ms(sessions[name], images[number % period]))
    ratios = [a / b for a, b in zip(times_ms["old"], times_ms["young"], strict=True)]
    report = {
        "backend": model.engines.description,
        "frames": options.frames,
        "step_ms_young": median(times_ms["young"]),
        "step_ms_old": median(times_ms["old"]),
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
