"""What `visolo bulk` costs beside `visolo run`, and what a second worker gives.

    python benchmarks/bulk_throughput.py [--model shapes] [--videos 40] [--rounds 3]
    python benchmarks/bulk_throughput.py --memory [--videos 1000]

The same videos are run in turns: with a `visolo run` for each, one after the other; with one
`visolo run` on their folder; and with `visolo bulk` on one worker, on two, and on one that runs
several side by side. Each has the same processors, and writes the same results and lines. Ratios
are of whole commands, from their start to their end, with Ray's start and end in them; ``work``
leaves out the time until the first video is over.

With ``--memory``, one worker runs many videos, and its resident memory is sampled after each: the
highest of the last half may exceed the highest of the first by 2 %.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from benchmarks.bulk_kills import committed, job_of, processes_of, write_video

_GROWTH = 1.02
_PAUSE_S = 0.05


def _visolo(*arguments: object) -> list[str]:
    """A command line."""
    return [sys.executable, "-m", "visolo", *map(str, arguments)]


def _finished(command: list[str]) -> None:
    """Run a command that must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)


def one_by_one(options: argparse.Namespace, out: Path) -> float:
    """Seconds of a `visolo run` for each video."""
    begin = time.perf_counter()
    for video in sorted((options.folder / "videos").iterdir()):
        results, lines = out / f"{video.stem}.json", out / f"{video.stem}.jsonl"
        _finished(_visolo("run", options.model, video, "--results", results, "--frames", lines,
                        *options.option))  # fmt: skip
    return time.perf_counter() - begin


def _together(options: argparse.Namespace, out: Path) -> float:
    """Seconds of one `visolo run` on all videos, which it runs one after the other."""
    begin = time.perf_counter()
    _finished(_visolo("run", options.model, options.folder / "videos", "--results", out / "r.json",
                    "--frames", out / "f.jsonl", *options.option))  # fmt: skip
    return time.perf_counter() - begin


def _bulk(workers: int, per_worker: int) -> Callable[[argparse.Namespace, Path], float]:
    """Seconds of a `visolo bulk`."""

    def seconds(options: argparse.Namespace, out: Path) -> float:
        begin = time.perf_counter()
        arguments = ["-o", out, "--frames", "--workers", workers, "--per-worker", per_worker]
        videos = options.folder / "videos"
        _finished(_visolo("bulk", options.model, videos, *arguments, *options.option))
        spent = time.perf_counter() - begin
        first = min(file.stat().st_mtime for file in (out / "results").iterdir())
        last = max(file.stat().st_mtime for file in (out / "results").iterdir())
        share = (options.videos - 1) / options.videos
        work = (last - first) / share if share else spent
        print(f"   work alone: {work:.1f} s", flush=True)
        return spent

    return seconds


_WAYS: dict[str, Callable[[argparse.Namespace, Path], float]] = {
    "visolo run, each": one_by_one,
    "visolo run, all": _together,
    "bulk, 1 worker": _bulk(1, 1),
    "bulk, 2 workers": _bulk(2, 1),
    "bulk, 1 worker of 3": _bulk(1, 3),
}


def throughput(options: argparse.Namespace) -> None:
    """Time all ways in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in _WAYS}
    for _ in range(options.rounds):
        for name, way in _WAYS.items():
            out = options.folder / "out"
            out.mkdir()
            seconds[name].append(way(options, out))
            shutil.rmtree(out)
            print(f"{name}: {seconds[name][-1]:.1f} s", flush=True)
    base = seconds["visolo run, each"]
    print("| | seconds | videos a second, of `visolo run` for each |\n|---|---|---|")
    for name, spent in seconds.items():
        ratios = [before / now for before, now in zip(base, spent, strict=True)]
        print(f"| {name} | {median(spent):.1f} | {median(ratios):.2f} |")


def _resident_mb(process: int) -> float:
    """Resident memory of a process."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def memory(options: argparse.Namespace) -> bool:
    """Whether the memory of a worker stays flat."""
    out = options.folder / "out"
    process = subprocess.Popen(
        _visolo("bulk", options.model, options.folder / "videos", "-o", out, "--frames",
               "--workers", 1, *options.option)
    )  # fmt: skip
    samples: list[tuple[int, float]] = []
    while process.poll() is None:
        time.sleep(_PAUSE_S)
        job, done = job_of(process.pid), committed(out)
        if job is None or (samples and samples[-1][0] == done):
            continue
        workers = [each for each, line in processes_of(job).items() if "ray::MapWorker" in line]
        if workers and done:
            samples.append((done, _resident_mb(workers[0])))
    half = options.videos // 2
    first = max(mb for done, mb in samples if done <= half)
    last = max(mb for done, mb in samples if done > half)
    for place in (1, half // 10, half, options.videos):
        nearest = min(samples, key=lambda each: abs(each[0] - place))
        print(f"after {nearest[0]} videos: {nearest[1]:.1f} MB")
    print(f"highest of the first half {first:.1f} MB, of the last {last:.1f} MB")
    return process.returncode == 0 and last <= _GROWTH * first


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="shapes")
    parser.add_argument("--videos", type=int, default=40)
    parser.add_argument("--frames", type=int, default=32, help="of each video")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", action="store_true", help="sample memory instead")
    parser.add_argument("--option", action="append", default=[], help="of all commands")
    parser.add_argument("--folder", type=Path, help="for videos and outputs; kept")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bulk-throughput-") as temporary:
        options.folder = options.folder or Path(temporary)
        (options.folder / "videos").mkdir(parents=True, exist_ok=True)
        for number in range(options.videos):
            path = options.folder / "videos" / f"{number:04}.mp4"
            if not path.exists():
                write_video(path, options.frames - number % 8)
        if options.memory:
            raise SystemExit(not memory(options))
        throughput(options)


if __name__ == "__main__":
    main()
