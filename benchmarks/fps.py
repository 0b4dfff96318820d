"""Measures frames a second of a model on every backend that can run it on this machine.

    python benchmarks/fps.py MODEL [SOURCE] [--backend NAME ...] [--target-fps 40] [--json]

The backends take turns in one process, so that their ratios hold on a shared machine. A frame's
time runs from the source to masks at the source's size, as a user waits for them, and includes
reading the video file. Without a source, a generated 640x360 clip is used. With --target-fps the
exit status is 1 if no backend reaches it. `visolo bench` shows where the time goes.
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


def usable(model: Path, backends: list[str]) -> tuple[list[Entrant], dict[str, str]]:
    """Open the model on each backend that can run it on this machine.

    Args:
        model: a bundle's folder, or a weights file.
        backends: names of the backends to use; if empty, all that the model has graphs for.

    Returns:
        the opened models, and by name of the other backends the reason why they cannot run it.

    Raises:
        VisoloError: if a named backend cannot run it, or none can.
    """
    entrants, reasons = [], dict[str, str]()
    if model.is_dir():
        formats = {graphs.format for graphs in Bundle(model).manifest.graphs}
        names = [spec.name for spec in BACKENDS if formats & set(spec.formats)]
    else:
        names = [TORCH]
    for name in backends or names:
        try:
            opened: Model = load(model, name)
        except NotHereError as error:
            if name in backends:
                raise
            reasons[name] = str(error)
        else:
            entrants.append(Entrant(name, opened))
    if not entrants:
        raise VisoloError(f"nothing here can run '{model}': {'; '.join(reasons.values())}")
    return entrants, reasons


def report(measured: list[Measured], source: str, reasons: dict[str, str]) -> dict[str, Any]:
    """All figures, fastest backend first, ready for JSON."""
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
    """Print a table or one JSON object, and return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="a bundle, or weights for PyTorch")
    parser.add_argument("source", nargs="?", help="a video file or a folder of frames")
    parser.add_argument("--backend", action="append", default=[], help="may be repeated")
    parser.add_argument("--frames", type=int, default=100, help="timed in each round")
    parser.add_argument("--warm-up", type=int, default=10, help="frames run before those")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each backend")
    parser.add_argument("--target-fps", type=float)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if min(options.frames, options.rounds) < 1 or options.warm_up < 0:
        parser.error("--frames and --rounds must be 1 or more, --warm-up 0 or more")
    try:
        entrants, reasons = usable(options.model, options.backend)
        frames, name = frame_source(options.source, options.frames + options.warm_up)
        plan = Plan(options.frames, options.warm_up, options.rounds)
        figures = report(measure(entrants, frames, plan), name, reasons)
    except VisoloError as error:
        print(f"fps.py: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps(figures))
    else:
        print(f"{name}\n\n| backend | FPS | p50 ms | p99 ms |\n|---|---|---|---|")
        for row in figures["backends"]:
            print(
                f"| {row['backend']}: {row['description']} | {row['fps']:.1f} "
                f"| {row['p50_ms']:.1f} | {row['p99_ms']:.1f} |"
            )
        for each in reasons.values():
            print(f"\n{each}")
    best_fps = figures["backends"][0]["fps"]
    return int(options.target_fps is not None and best_fps < options.target_fps)


if __name__ == "__main__":
    sys.exit(main())
