"""Frames a second of a model on every backend that can run it here.

    python benchmarks/fps.py MODEL [SOURCE] [--backend NAME ...] [--target-fps 40] [--json]

The backends take turns in one process, so that their ratios hold on a machine that is shared. A
frame's time runs from the source to masks at the source's size, as a user waits for them; reading a
video file is part of it. Without a source, frames of a generated 640x360 clip are used. With a
target the exit status is 1 if no backend reaches it. `visolo bench` shows where the time goes.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from visolo_core.errors import NotHereError, VisoloError
from visolo_runtime.bench import Entrant, Measured, Plan, measure
from visolo_runtime.bench_source import frame_source
from visolo_runtime.bundle import Bundle
from visolo_runtime.engines.backends import BACKENDS
from visolo_runtime.session.loading import TORCH, Model, load


def usable(model: Path, wanted: list[str]) -> tuple[list[Entrant], dict[str, str]]:
    """The model on each backend that runs it here, and why the others do not.

    Raises:
        VisoloError: if a backend that was named cannot run it, or none can.
    """
    entrants, reasons = [], dict[str, str]()
    if model.is_dir():
        formats = {graphs.format for graphs in Bundle(model).manifest.graphs}
        names = [spec.name for spec in BACKENDS if formats & set(spec.formats)]
    else:
        names = [TORCH]
    for name in wanted or names:
        try:
            opened: Model = load(model, name)
        except NotHereError as error:
            if name in wanted:
                raise
            reasons[name] = str(error)
        else:
            entrants.append(Entrant(name, opened))
    if not entrants:
        raise VisoloError(f"nothing here can run '{model}': {'; '.join(reasons.values())}")
    return entrants, reasons


def report(measured: list[Measured], source: str, reasons: dict[str, str]) -> dict[str, Any]:
    """All figures, fastest backend first, ready for json."""
    rows = [
        {
            "backend": each.name,
            "description": each.description,
            "fps": each.fps,
            "p50_ms": each.percentile(50),
            "p99_ms": each.percentile(99),
        }
        for each in sorted(measured, key=lambda each: -each.fps)
    ]
    return {"source": source, "backends": rows, "not_usable": reasons}


def main(arguments: list[str] | None = None) -> int:
    """Print a table, or one JSON object; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="a bundle, or weights for PyTorch")
    parser.add_argument("source", nargs="?", help="a video file or a folder of frames")
    parser.add_argument("--backend", action="append", default=[], help="may be repeated")
    parser.add_argument("--frames", type=int, default=100, help="counted in each round")
    parser.add_argument("--warm-up", type=int, default=10, help="run before those")
    parser.add_argument("--rounds", type=int, default=5, help="of each backend")
    parser.add_argument("--target-fps", type=float)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if min(options.frames, options.rounds) < 1 or options.warm_up < 0:
        parser.error("--frames and --rounds must be 1 or more, --warm-up 0 or more")
    try:
        entrants, reasons = usable(options.model, options.backend)
        frames, name = frame_source(options.source, options.frames + options.warm_up)
        plan = Plan(options.frames, options.warm_up, options.rounds)
        found = report(measure(entrants, frames, plan), name, reasons)
    except VisoloError as error:
        print(f"fps.py: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps(found))
    else:
        print(f"{name}\n\n| backend | FPS | p50 ms | p99 ms |\n|---|---|---|---|")
        for row in found["backends"]:
            print(
                f"| {row['backend']}: {row['description']} | {row['fps']:.1f} "
                f"| {row['p50_ms']:.1f} | {row['p99_ms']:.1f} |"
            )
        for each in reasons.values():
            print(f"\n{each}")
    return int(options.target_fps is not None and found["backends"][0]["fps"] < options.target_fps)


if __name__ == "__main__":
    sys.exit(main())
