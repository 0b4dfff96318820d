"""What many cameras, or a large archive, need: machines, network, disk and money.

    python benchmarks/plan.py cameras --cameras 10000 --fps 5 [--full-ms 40 --empty-ms 16 ...]
    python benchmarks/plan.py archive --hours 1000000 --fps 25 [--every 5 ...]

Every number that goes in is an option; the defaults are those that docs/planning.md measured or
assumes. A step costs core milliseconds, which is what a machine's cores are divided by: processor
time, not the time until a result is there. Prints a table, or one JSON object with --json.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass

_HOURS_A_MONTH = 730.0
_DAY_S = 86400.0


@dataclass(frozen=True)
class Costs:
    """What a frame costs, and what a machine has and costs."""

    full_ms: float
    """core milliseconds of a step in which something is found"""
    empty_ms: float
    """core milliseconds of one in which the mask branch sleeps"""
    read_ms: float
    """core milliseconds to decode a frame and make it small"""
    busy: float
    """share of the frames in which something is found"""
    cores: int
    """of a machine"""
    load: float
    """share of a machine that is used on average; the rest is for peaks and failures"""
    stream_mb: float
    """memory of a stream"""
    core_hour: float
    """money"""

    def step_ms(self) -> float:
        """Core milliseconds of a step on average."""
        return self.busy * self.full_ms + (1 - self.busy) * self.empty_ms

    def machine_ms(self) -> float:
        """Core milliseconds that a machine gives in a second."""
        return 1000.0 * self.cores * self.load


@dataclass(frozen=True)
class CameraPlan:
    """What is needed."""

    core_ms_a_second: float
    cores: float
    machines: float
    streams_a_machine: float
    memory_gb_a_machine: float
    network_gbit_s: float
    lines_gb_a_day: float
    money_a_month: float
    card_frames_s: float
    """that a graphics card must reach to cost no more than cores do"""


def plan_cameras(
    cameras: int,
    fps: float,
    camera_fps: float,
    mbit_s: float,
    line_bytes: float,
    card_hour: float,
    costs: Costs,
) -> CameraPlan:
    """What cameras need of which so many frames a second are run.

    A decoder cannot leave out frames that others are predicted from, so that every frame of a
    camera is decoded.
    """
    each = fps * costs.step_ms() + camera_fps * costs.read_ms
    work = cameras * each
    machines = work / costs.machine_ms()
    streams = cameras / machines
    steps = cameras * fps
    cores = machines * costs.cores
    money_s = cores * costs.core_hour / 3600
    return CameraPlan(
        work,
        cores,
        machines,
        streams,
        streams * costs.stream_mb / 1e3,
        cameras * mbit_s / 1e3,
        steps * line_bytes * _DAY_S / 1e9,
        money_s * 3600 * _HOURS_A_MONTH,
        steps / (money_s * 3600 / card_hour),
    )


@dataclass(frozen=True)
class ArchivePlan:
    """What an archive needs."""

    frames: float
    core_hours: float
    days_on_a_thousand_cores: float
    read_tb: float
    network_gbit_s_on_a_thousand_cores: float
    results_tb: float
    money: float


def plan_archive(
    hours: float, fps: float, every: int, gb_an_hour: float, line_bytes: float, costs: Costs
) -> ArchivePlan:
    """What an archive needs of which every so many-th frame is run."""
    frames = hours * 3600 * fps
    work_ms = frames * (costs.step_ms() / every + costs.read_ms)
    core_hours = work_ms / 3.6e6 / costs.load
    seconds = core_hours / 1000 * 3600
    return ArchivePlan(
        frames,
        core_hours,
        seconds / _DAY_S,
        hours * gb_an_hour / 1e3,
        hours * gb_an_hour * 8 / seconds,
        frames / every * line_bytes / 1e12,
        core_hours * costs.core_hour,
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("kind", choices=("cameras", "archive"))
    parser.add_argument("--cameras", type=int, default=10_000)
    parser.add_argument("--hours", type=float, default=1e6)
    parser.add_argument("--fps", type=float, default=5.0, help="that are run, or of the archive")
    parser.add_argument("--camera-fps", type=float, default=15.0, help="that are sent and decoded")
    parser.add_argument("--every", type=int, default=5, help="of the archive's frames is run")
    parser.add_argument("--full-ms", type=float, default=38.7)
    parser.add_argument("--empty-ms", type=float, default=24.1)
    parser.add_argument("--read-ms", type=float, default=1.1)
    parser.add_argument("--busy", type=float, default=0.5)
    parser.add_argument("--cores", type=int, default=64)
    parser.add_argument("--load", type=float, default=0.7)
    parser.add_argument("--stream-mb", type=float, default=7.2)
    parser.add_argument("--core-hour", type=float, default=0.04)
    parser.add_argument("--card-hour", type=float, default=1.0)
    parser.add_argument("--mbit-s", type=float, default=2.0, help="of a camera")
    parser.add_argument("--gb-an-hour", type=float, default=1.0, help="of the archive")
    parser.add_argument("--line-bytes", type=float, default=745.0, help="of a frame's results")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    costs = Costs(
        given.full_ms, given.empty_ms, given.read_ms, given.busy, given.cores, given.load,
        given.stream_mb, given.core_hour,
    )  # fmt: skip
    plan: CameraPlan | ArchivePlan
    if given.kind == "cameras":
        plan = plan_cameras(
            given.cameras, given.fps, given.camera_fps, given.mbit_s, given.line_bytes,
            given.card_hour, costs,
        )  # fmt: skip
    else:
        plan = plan_archive(
            given.hours, given.fps, given.every, given.gb_an_hour, given.line_bytes, costs
        )
    if given.json:
        print(json.dumps(asdict(plan)))
        return
    for name, value in asdict(plan).items():
        print(f"{name.replace('_', ' '):40} {value:,.1f}")


if __name__ == "__main__":
    main()
