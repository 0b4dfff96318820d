"""Kills `visolo bulk` again and again, and compares what it wrote with an undisturbed run.

    python benchmarks/bulk_kills.py [--model shapes] [--videos 200] [--kills 50] [--damaged 5]
    python benchmarks/bulk_kills.py --full-disk

Short videos are run on two workers. At random moments, something is ended with SIGKILL: a worker,
the command, the process that talks to Ray, or Ray's node with all that belongs to it (its
scheduler, ``raylet``, or its ``gcs_server``). A command that has ended is started again, until all
kills are used up and it ends by itself. With ``--full-disk``, the results go to a file system that
is too small, which is enlarged after the first run; that needs root.

Every output must have the bytes of the undisturbed run, and its manifest one row a video, with the
same counts and reasons. The exit status is 1 if anything differs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import av

from visolo_runtime.video.sample_clip import sample_frames

SIZE = 96, 160
_STARTS_WITHIN_S = 300.0
_PAUSE_S = 0.2
_ROUNDS = 40
"""Commands in a row that may end by themselves without all videos: each does something."""
_KINDS = ("worker", "worker", "command", "job", "raylet", "gcs_server")


def write_video(path: Path, frames: int) -> None:
    """A film of moving shapes."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = SIZE[1], SIZE[0], "yuv420p"
        stream.options = {"g": "6", "crf": "18", "threads": "1"}
        for frame in sample_frames(frames, *SIZE):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


def write_videos(folder: Path, options: argparse.Namespace, chance: random.Random) -> None:
    """Films of which some cannot be opened or end in the middle."""
    folder.mkdir(parents=True, exist_ok=True)
    videos, damaged, frames = options.videos, options.damaged, options.frames
    for number in range(videos):
        write_video(folder / f"{number:04}.mp4", frames + number % (frames + 1))
    for place, number in enumerate(sorted(chance.sample(range(videos), damaged))):
        path = folder / f"{number:04}.mp4"
        content = path.read_bytes()
        if place % 2:
            path.write_bytes(content[: len(content) // 3])  # without its index
        else:
            path.write_bytes(b"\0" * len(content))


def command(options: argparse.Namespace, out: Path) -> list[str]:
    """The command line that all runs have."""
    return [
        sys.executable, "-m", "visolo", "bulk", options.model, str(options.folder / "videos"),
        "-o", str(out), "--frames", "--workers", str(options.workers),
        "--per-worker", str(options.per_worker), "--retries", "1", "--json",
        *options.option,
    ]  # fmt: skip


def run(options: argparse.Namespace, out: Path) -> tuple[int, dict[str, Any], str]:
    """Run the command to its end: status, what it printed, what it said."""
    done = subprocess.run(command(options, out), capture_output=True, text=True, check=False)
    report = json.loads(done.stdout) if done.stdout.strip() else {}
    return done.returncode, report, done.stderr


# ------------------------------------------------------------------------------------- the kills


def processes_of(leader: int) -> dict[int, str]:
    """Processes of a session and their command lines."""
    found = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            with suppress(OSError):
                if os.getsid(int(entry.name)) == leader:
                    line = Path(entry.path, "cmdline").read_bytes()
                    found[int(entry.name)] = line.replace(b"\0", b" ").decode(errors="replace")
    return found


def job_of(parent: int) -> int | None:
    """The process of a command that talks to Ray."""
    with suppress(OSError):
        for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
            if b"visolo_runtime.bulk.job" in Path(f"/proc/{child}/cmdline").read_bytes():
                return int(child)
    return None


def victim(process: subprocess.Popen[str], kind: str, chance: random.Random) -> int | None:
    """A process of a kind, if there is one."""
    if kind == "command":
        return process.pid
    job = job_of(process.pid)
    if job is None or kind == "job":
        return job
    words = {"worker": "ray::MapWorker", "raylet": "/raylet ", "gcs_server": "/gcs_server "}
    found = [number for number, line in processes_of(job).items() if words[kind] in line]
    return chance.choice(sorted(found)) if found else None


def committed(out: Path) -> int:
    """Videos that are over, by their outputs."""
    return sum(1 for _ in (out / "results").glob("*.json"))


def disturb(options: argparse.Namespace, out: Path, chance: random.Random) -> Counter[str]:
    """Run the command until it ends by itself after all kills."""
    kills, ends = Counter[str](), Counter[str]()
    for _ in range(_ROUNDS + options.kills):
        process = subprocess.Popen(
            command(options, out), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        while sum(kills.values()) < options.kills and process.poll() is None:
            left = options.kills - sum(kills.values())
            wait_for_moment(process, out, (options.videos - committed(out)) / left, chance)
            kind = chance.choice(_KINDS)
            number = victim(process, kind, chance)
            if number is None or process.poll() is not None:
                continue
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
                kills[kind] += 1
                print(f"{sum(kills.values())}: {kind}, {committed(out)} videos", flush=True)
        answer, said = process.communicate()
        ends[f"status {process.returncode}"] += 1
        report = json.loads(answer) if answer.strip() else {}
        if "Traceback" in said or process.returncode == 2:
            raise SystemExit(said)
        if report.get("ended"):
            print(f"   {report['ended']}", flush=True)
        over = process.returncode == 0 or (process.returncode == 1 and is_all(report))
        if over and sum(kills.values()) >= options.kills:
            return kills + ends
    raise SystemExit("it does not come to an end")


def is_all(report: dict[str, Any]) -> bool:
    """Whether a run did all it could: what is missing failed by itself."""
    killed = any("worker ended" in each["reason"] for each in report["failed"])
    return not report["ended"] and not killed


def wait_for_moment(
    process: subprocess.Popen[str], out: Path, share: float, chance: random.Random
) -> None:
    """At times any moment, else one after half of a kill's share of the videos that are left."""
    if chance.random() < 0.2:
        time.sleep(chance.uniform(0, 10))
        return
    goal, until = committed(out) + max(1, int(share / 2)), time.monotonic() + _STARTS_WITHIN_S
    while process.poll() is None and committed(out) < goal and time.monotonic() < until:
        time.sleep(_PAUSE_S)
    time.sleep(chance.uniform(0, 0.5))


# ---------------------------------------------------------------------------------- the full disk


@contextmanager
def small_disk(place: Path, kilobytes: int) -> Iterator[None]:
    """A file system of a size at a place."""
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", place], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def fill_disk(options: argparse.Namespace, reference: Path, out: Path) -> list[str]:
    """Run with too small a disk, look at what is there, and run with a larger one."""
    whole = sum(file.stat().st_size for file in reference.rglob("*") if file.is_file()) // 1024
    with small_disk(out, whole // 2):
        status, report, said = run(options, out)
        print(f"full disk: status {status}: {report.get('ended') or said}", flush=True)
        wrong = [] if status == 1 and "Traceback" not in said else [f"status {status}: {said}"]
        wrong += different_files(reference, out, whole=False)
        subprocess.run(["mount", "-o", f"remount,size={whole * 8}k", out], check=True)
        status, _, said = run(options, out)
        print(f"larger disk: status {status}", flush=True)
        return wrong + differences(reference, out)


# --------------------------------------------------------------------------------- what is there


def outputs_in(out: Path) -> dict[str, bytes]:
    """The results and lines, by name."""
    files = [*out.glob("results/*"), *out.glob("frames/*")]
    return {str(file.relative_to(out)): file.read_bytes() for file in files}


def manifest_of(out: Path) -> list[dict[str, Any]]:
    """The rows, without what depends on the time and on the kills."""
    import pyarrow.parquet

    with (out / "manifest.parquet").open("rb") as file:
        rows = pyarrow.parquet.read_table(file).to_pylist()
    free = ("seconds", "attempt", "run")
    return [{name: value for name, value in row.items() if name not in free} for row in rows]


def different_files(expected: Path, out: Path, whole: bool = True) -> list[str]:
    """Outputs that differ, are missing, or should not be there."""
    reference, there = outputs_in(expected), outputs_in(out)
    wrong = [f"{name} should not be there" for name in there.keys() - reference.keys()]
    if whole:
        wrong += [f"{name} is missing" for name in reference.keys() - there.keys()]
    common = reference.keys() & there.keys()
    return wrong + [f"{name} differs" for name in common if reference[name] != there[name]]


def differences(expected: Path, out: Path) -> list[str]:
    """All that is not as in the undisturbed run."""
    wrong = different_files(expected, out)
    if manifest_of(expected) != manifest_of(out):
        wrong.append("the manifests differ")
    left = [file for file in (out / ".visolo-bulk").rglob("*") if file.is_file()]
    wrong += [f"{file} is left" for file in left if file.name not in ("lock", "here")]
    return wrong


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="shapes")
    parser.add_argument("--videos", type=int, default=200)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--damaged", type=int, default=0)
    parser.add_argument("--frames", type=int, default=16, help="of the shortest; twice the longest")
    parser.add_argument("--full-disk", action="store_true", help="fill the disk instead of killing")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--per-worker", type=int, default=1)
    parser.add_argument("--option", action="append", default=[], help="of visolo bulk")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="for videos and outputs; kept")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bulk-kills-") as temporary:
        options.folder = options.folder or Path(temporary)
        chance = random.Random(options.seed)
        if not (options.folder / "videos").exists():
            write_videos(options.folder / "videos", options, chance)
        reference, out = options.folder / "undisturbed", options.folder / "disturbed"
        begin = time.monotonic()
        status, report, said = run(options, reference)
        print(f"undisturbed: status {status}, {time.monotonic() - begin:.0f} s, "
              f"{report.get('done')} of {report.get('videos')} done", flush=True)  # fmt: skip
        if status != int(options.damaged > 0):
            raise SystemExit(said)
        if options.full_disk:
            wrong = fill_disk(options, reference, out)
        else:
            print(dict(disturb(options, out, chance)))
            wrong = differences(reference, out)
    print("\n".join(wrong) or "every output is as in the undisturbed run")
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
