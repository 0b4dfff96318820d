"""Measures whether a long video costs more at its end: step time, memory and host work, by frame.

    python benchmarks/constant_cost.py MODEL VIDEO [--out report.json]

Prints the growth of resident memory after frame 50, the median step of the last 50 frames divided
by that of frames 20 to 70, and the share of the step that is spent outside the graphs.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from visolo_runtime.bench import resident_mb
from visolo_runtime.session.loading import load
from visolo_runtime.session.stream import GRAPH_STAGES
from visolo_runtime.sources.clip import SourceFrame
from visolo_runtime.sources.opening import open_source

WARM = 50


def measure_stream(
    model: str, video: str, backend: str, record: bool
) -> dict[str, float | int | str]:
    """Run the whole video once and report its figures."""
    opened = load(model, backend)
    session = opened.session(record=record)
    step_ms, host_ms, resident, instances = [], [], [], 0
    for frame in open_source(video)[0].frames():
        if not isinstance(frame, SourceFrame):
            session.skip()
            continue
        instances += len(session.step(frame.picture))
        stages = session.stage_ms
        step_ms.append(sum(stages.values()))
        host_ms.append(
            sum(spent for stage, spent in stages.items() if stage not in (*GRAPH_STAGES, "record"))
        )
        resident.append(resident_mb())
        if len(step_ms) % 25 == 0:
            print(
                f"frame {len(step_ms)}: {step_ms[-1]:.0f} ms, {resident[-1]:.0f} MB",
                file=sys.stderr,
            )
    if len(step_ms) < 2 * WARM + 20:
        raise SystemExit(f"'{video}' has {len(step_ms)} frames; {2 * WARM + 20} are needed")
    early, late = np.median(step_ms[20:70]), np.median(step_ms[-50:])
    return {
        "backend": opened.engines.description,
        "frames": len(step_ms),
        "instances_a_frame": instances / len(step_ms),
        "resident_mb_at_50": resident[WARM],
        "resident_mb_at_end": resident[-1],
        "resident_growth_mb": resident[-1] - resident[WARM],
        "step_ms_early": float(early),
        "step_ms_late": float(late),
        "late_over_early": float(late / early),
        "host_share": float(np.sum(host_ms) / np.sum(step_ms)),
        "host_ms": float(np.median(host_ms)),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("model", help="bundle, or weights with --backend torch")
    parser.add_argument("video")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--record", action="store_true", help="keep all masks, as --results does")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    report = measure_stream(arguments.model, arguments.video, arguments.backend, arguments.record)
    text = json.dumps(report, indent=2)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
