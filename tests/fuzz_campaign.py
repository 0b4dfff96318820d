"""Damages valid files at random, for as long as you like, and lets every reader read them.

    python tests/fuzz_campaign.py --minutes 60 [--readers cvat,pth] [--out build/fuzz] [--seed 0]

A reader may refuse a file with a ``VisoloError``. Any other exception is a fault, and so are a
crash, more than ten seconds of a processor for one file, and an allocation of more than three
gigabytes. The first file of each fault is kept in OUT/READER/, with the traceback beside it. The
readers take turns in processes of their own; the seed and the number of a turn say what it reads.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from random import Random
from types import FrameType

from fuzzed_readers import READERS, fault_of, place

LIMIT_S = 10.0
"""Longest time of the processor for one file."""
MEMORY = 3 << 30
"""Most bytes that reading one file may add to the address space."""
TURN_S = 60.0
_LONGEST_WAIT_S = 900.0  # for a reader that waits and does not compute


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--readers", default=",".join(READERS))
    parser.add_argument("--out", type=Path, default=Path("build/fuzz"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--turn", help=argparse.SUPPRESS)  # a process of one reader
    options = parser.parse_args()
    if options.turn:
        return _turn(options.turn, options.seed, options.minutes * 60, options.out)
    names = options.readers.split(",")
    options.out.mkdir(parents=True, exist_ok=True)
    end, turn, files = time.monotonic() + options.minutes * 60, 0, dict.fromkeys(names, 0)
    while time.monotonic() < end:
        name = names[turn % len(names)]
        files[name] += _run_turn(name, options.seed + turn, options.out)
        turn += 1
        (options.out / "files.json").write_text(json.dumps(files, indent=1))
    faults = sorted(options.out.glob("*/*.txt"))
    print(json.dumps({"files": files, "faults": [str(each) for each in faults]}, indent=1))
    return int(bool(faults))


def _run_turn(name: str, seed: int, out: Path) -> int:
    """Let a process read damaged files for a while; returns how many it read."""
    with tempfile.TemporaryDirectory(prefix="visolo-fuzz-") as folder:
        current = Path(folder) / "current"
        words = [sys.executable, __file__, "--turn", f"{name}:{folder}", "--seed", str(seed)]
        words += ["--minutes", str(TURN_S / 60), "--out", str(out)]
        with (Path(folder) / "count").open("w+") as counted:
            process = subprocess.Popen(words, stdout=counted)
            # Python's own timer ends a reader that hangs in Python; this ends any other.
            seen, since = 0.0, 0.0
            while process.poll() is None:
                time.sleep(0.5)
                changed, used = _changed(current), _processor_s(process.pid)
                if changed != seen:
                    seen, since = changed, used
                if seen and (used - since > 3 * LIMIT_S or time.time() - seen > _LONGEST_WAIT_S):
                    process.kill()
            counted.seek(0)
            output = counted.read()
        if process.returncode and current.exists():
            _keep(out / name, current.read_bytes(), f"the process ended with {process.returncode}")
        lines = output.split()
        return int(lines[-1]) if lines else 0


def _changed(file: Path) -> float:
    """When a file was written last, in seconds; 0 before the first time."""
    return file.stat().st_mtime if file.exists() else 0.0


def _processor_s(process: int) -> float:
    """Seconds that a process has computed: on a busy machine, a clock on the wall says nothing."""
    try:
        words = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def _turn(which: str, seed: int, seconds: float, out: Path) -> int:
    name, _, folder = which.partition(":")
    reader, random = READERS[name], Random(seed)
    warnings.simplefilter("ignore")
    seeds = reader.seeds()
    path = place(reader, Path(folder) / "files")
    for seed_file in seeds:
        path.write_bytes(seed_file)
        fault_of(reader, path)  # imports what it needs
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    signal.signal(signal.SIGPROF, _too_long)
    files, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        content = random.choice(seeds)
        for _ in range(random.choice((1, 1, 2))):
            try:
                content = random.choice(reader.mutations)(content, random)
            except Exception:
                break  # no longer of a form that this mutation knows
        path.write_bytes(content)
        (Path(folder) / "current").write_bytes(content)
        signal.setitimer(signal.ITIMER_PROF, LIMIT_S)
        fault: BaseException | None
        try:
            fault = fault_of(reader, path)
        except _TooLongError as error:
            fault = error
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        files += 1
        if files % 50 == 0:
            print(files, flush=True)
        if fault is not None:
            _keep(out / name, content, "".join(traceback.format_exception(fault)))
    print(files, flush=True)
    return 0


class _TooLongError(BaseException):
    """Not an ``Exception``, which readers may turn into a sentence."""


def _too_long(_number: int, _frame: FrameType | None) -> None:
    raise _TooLongError(f"reading took more than {LIMIT_S} s")


def _keep(folder: Path, content: bytes, report: str) -> None:
    """Keep a file unless another one ended at the same line."""
    lines = [line for line in report.splitlines() if line.lstrip().startswith("File ")]
    digest = hashlib.sha256("".join(lines[-3:]).encode() or report.encode()).hexdigest()[:8]
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / f"{digest}.txt").exists():
        (folder / digest).write_bytes(content)
        (folder / f"{digest}.txt").write_text(report, encoding="utf-8", errors="backslashreplace")


if __name__ == "__main__":
    sys.exit(main())
