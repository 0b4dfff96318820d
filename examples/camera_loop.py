"""Counts the instances that a camera sees, by label, until Ctrl-C.

    python examples/camera_loop.py model.visolo 0
    python examples/camera_loop.py model.visolo rtsp://camera/stream

A file or a folder of frames works as well. From a live source the script takes the latest frame
and drops older ones that are still waiting.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

import visolo


def watch(model: Path, source: str) -> None:
    """Print a line whenever the counts change."""
    before = None
    for _, instances in visolo.track(model, source):
        counts = Counter(each.track_label for each in instances)
        if counts != before:
            summary = ", ".join(f"{number} {label}" for label, number in sorted(counts.items()))
            print(f"frame {instances.frame}: {summary or 'nothing'}", flush=True)
        before = counts


def main() -> int:
    """Read the arguments and watch; returns the exit status."""
    parser = argparse.ArgumentParser(description="Count what a camera sees, by label.")
    parser.add_argument("model", type=Path)
    parser.add_argument("source", help="a camera's number, an address, a file or a folder")
    options = parser.parse_args()
    try:
        watch(options.model, options.source)
    except visolo.VisoloError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
