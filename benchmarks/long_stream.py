"""Does a stream cost more after hours? Step time and memory at frame 100 and at frame 10,000.

    python benchmarks/long_stream.py BUNDLE [--frames 10000] [--backend auto] [--out report.json]

A generated stream, drawn once and played to and fro, so that objects come, go and come back. Each
level is the median of a hundred steps.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from statistics import median

from visolo_runtime import load
from visolo_runtime.bench import resident_mb
from visolo_runtime.sample_clip import sample_frames

_LEVEL = 100  # steps


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
    model = load(options.bundle, options.backend)
    session = model.session(record=False)
    steps: list[float] = []
    resident: dict[int, float] = {}
    for number in range(options.frames + _LEVEL):
        begin = time.perf_counter()
        session.step(played[number % len(played)])
        steps.append((time.perf_counter() - begin) * 1e3)
        if number in (_LEVEL, options.frames) or number % 1000 == 0:
            resident[number] = resident_mb()
            print(f"frame {number}: {resident[number]:.0f} MB", file=sys.stderr)
    # The same pictures at both levels, so that the same number of masks is decoded.
    period = len(played)
    late_begin = (options.frames - _LEVEL) // period * period + _LEVEL
    early, late = (median(steps[at : at + _LEVEL]) for at in (_LEVEL, late_begin))
    report = {
        "backend": model.engines.description,
        "frames": options.frames,
        "step_ms_at_100": early,
        "step_ms_at_end": late,
        "late_over_early": late / early,
        "resident_mb_at_100": resident[_LEVEL],
        "resident_mb_at_end": resident[options.frames],
        "resident_growth_mb": resident[options.frames] - resident[_LEVEL],
        "tracks_begun": session.tracks_begun,
    }
    text = json.dumps(report, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
