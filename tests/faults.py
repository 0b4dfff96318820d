"""Runs ``visolo run`` many times, lets something go wrong at a random moment of each, and checks
what is left: what was committed is readable and complete, nothing hidden stays, and nothing hangs.

    python tests/faults.py --runs 200 [--model MODEL] [--seed 0]

prints the table of docs/reliability.md. Each run has two sources side by side, the one that the
fault is for and one that nothing happens to, and writes lines, tracks and annotated videos.
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
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import av

from clips import write_video

FRAMES = 24
"""Of each source."""
SIZE = 96, 160
END_WITHIN_S = 10.0
"""From the fault, or from the last thing that is waited for, to the end of the process."""
RUN_WITHIN_S = 240.0
"""A run that nothing ends, on a machine that has much else to do."""
FROZEN_S = 2.0
"""For how long a source says nothing before its user loses patience."""


@dataclass
class Setting:
    """Where a run takes place."""

    folder: Path
    model: str
    random: random.Random
    process: subprocess.Popen[str] | None = None
    fault_at: float = 0.0
    """when it came, in seconds of ``time.monotonic``"""
    may_be_missing: set[str] = field(default_factory=set)
    """outputs that the fault may have ended"""
    may_be_shorter: bool = False
    """whether the first source may yield less than all its frames"""
    all_may_be_shorter: bool = False
    statuses: tuple[int, ...] = (0,)
    """with which the run may end"""
    options: list[str] = field(default_factory=list)

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def spool(self) -> Path:
        return self.folder / "spool"

    @property
    def source(self) -> Path:
        return self.folder / "first.mkv"

    @property
    def running(self) -> subprocess.Popen[str]:
        assert self.process is not None
        return self.process

    def strike(self, action: Callable[[], object]) -> None:
        self.fault_at = time.monotonic()
        action()

    def wait_for_moment(self) -> None:
        """Until a random moment of the run: before its first frame, at one, or at its end."""
        if self.random.random() < 0.15:
            time.sleep(self.random.uniform(0, 3))
            return
        lines = self.random.randrange(2 * FRAMES + 1)
        while self.running.poll() is None and self._lines() < lines:
            time.sleep(0.005)
        time.sleep(self.random.uniform(0, 0.2))

    def wait_for_silence(self) -> None:
        """Until the run has written nothing for a while."""
        seen, since = -1, time.monotonic()
        while time.monotonic() < since + FROZEN_S:
            if (lines := self._lines()) != seen:
                seen, since = lines, time.monotonic()
            elif not self.out.joinpath("v").exists():
                since = time.monotonic()  # it is still starting
                if self.random.random() < 0.002:
                    return
            time.sleep(0.02)

    def _lines(self) -> int:
        with suppress(OSError):
            for path in self.out.glob(".f-visolo-*.jsonl"):
                return path.read_bytes().count(b"\n")
        return 2 * FRAMES if (self.out / "f.jsonl").exists() else 0


@dataclass(frozen=True)
class Outcome:
    """What one run left."""

    fault: str
    seed: int
    status: int
    end_s: float
    """from the fault to the end"""
    kept: str
    """what was committed"""
    problems: tuple[str, ...]


# -------------------------------------------------------------------------------- the faults


def sent(number: signal.Signals) -> Callable[[Setting], None]:
    def fault(setting: Setting) -> None:
        setting.all_may_be_shorter = True
        killed = number == signal.SIGKILL
        setting.statuses = (-number,) if killed else (128 + number, -number, 0)
        if killed:
            setting.may_be_missing = {"f.jsonl", "r.json", "1.mp4", "2.mp4"}
        start(setting)
        setting.wait_for_moment()
        setting.strike(lambda: setting.running.send_signal(number))
        if killed and setting.running.wait() == 0:
            setting.statuses = (0,)

    return fault


def twice(setting: Setting) -> None:
    """The second comes while the run still does what the first asked for, or after its end."""
    setting.all_may_be_shorter = True
    setting.may_be_missing = {"f.jsonl", "r.json", "1.mp4", "2.mp4"}
    setting.statuses = (143, 0, -signal.SIGTERM)
    start(setting)
    setting.wait_for_moment()
    setting.strike(lambda: setting.running.send_signal(signal.SIGTERM))
    time.sleep(setting.random.uniform(0, 0.1))
    setting.running.send_signal(signal.SIGTERM)


def full_disk(setting: Setting) -> None:
    """All outputs are on a file system that is full at some moment of the run."""
    setting.may_be_missing = {"f.jsonl", "r.json", "1.mp4", "2.mp4"}
    setting.all_may_be_shorter = True  # the run ends when the last output has
    setting.statuses = 0, 1
    setting.fault_at = time.monotonic()
    start(setting)


def closed_pipe(setting: Setting) -> None:
    """The reader of standard output leaves, as ``head`` does."""
    setting.may_be_missing = {"f.jsonl"}
    setting.all_may_be_shorter = True
    setting.statuses = 141, 0
    start(setting, frames="-", json_report=False)
    out = setting.running.stdout
    assert out is not None
    for _ in range(setting.random.randrange(2 * FRAMES)):
        out.readline()
    setting.strike(out.close)
    setting.running.stdout = None


def lost_reader(setting: Setting) -> None:
    """The reader of a FIFO leaves; the run goes on without it."""
    setting.may_be_missing = {"f.jsonl"}
    setting.statuses = 0, 1
    fifo = setting.folder / "fifo"
    os.mkfifo(fifo)
    start(setting, frames=str(fifo))
    with fifo.open() as reader:
        for _ in range(setting.random.randrange(2 * FRAMES)):
            reader.readline()
    setting.fault_at = time.monotonic()


def killed_source(setting: Setting) -> None:
    """What writes the first source into a pipe ends in the middle."""
    setting.may_be_shorter = True
    setting.may_be_missing = {"1.mp4"}
    setting.statuses = 0, 1, 2
    start(setting, source="-")
    setting.strike(lambda: feed(setting, close=True))


def frozen_source(setting: Setting) -> None:
    """What writes the first source into a pipe stops, and the user loses patience."""
    setting.all_may_be_shorter = True
    setting.may_be_missing = {"f.jsonl", "r.json", "1.mp4", "2.mp4"}
    setting.statuses = 143, -signal.SIGTERM, 0
    start(setting, source="-")
    feed(setting, close=False)
    setting.wait_for_silence()
    setting.strike(lambda: setting.running.send_signal(signal.SIGTERM))


def feed(setting: Setting, close: bool) -> None:
    content = setting.source.read_bytes()
    pipe = setting.running.stdin
    assert pipe is not None
    with suppress(BrokenPipeError):
        pipe.buffer.write(content[: setting.random.randrange(len(content))])  # type: ignore[attr-defined]
        pipe.buffer.flush()  # type: ignore[attr-defined]
    if close:
        with suppress(BrokenPipeError):
            pipe.close()
        setting.running.stdin = None


def corrupted(setting: Setting) -> None:
    """Bytes of the first source are others, or its end is missing."""
    setting.may_be_shorter = True
    setting.may_be_missing = {"1.mp4"}
    setting.statuses = 0, 1, 2
    chance = setting.random
    suffix = chance.choice([".ts", ".mp4", ".mkv"])
    path = write_video(setting.folder / f"damaged{suffix}", FRAMES, *SIZE)
    content = bytearray(path.read_bytes())
    for _ in range(chance.choice([1, 10, 100])):
        at = chance.randrange(len(content))
        content[at : at + 16] = chance.randbytes(min(16, len(content) - at))
    path.write_bytes(content[: chance.choice([len(content), chance.randrange(len(content))])])
    setting.fault_at = time.monotonic()
    start(setting, source=str(path))


FAULTS: dict[str, Callable[[Setting], None]] = {
    "SIGTERM": sent(signal.SIGTERM),
    "SIGHUP": sent(signal.SIGHUP),
    "SIGTERM twice": twice,
    "SIGKILL": sent(signal.SIGKILL),
    "full disk": full_disk,
    "closed pipe": closed_pipe,
    "reader of a FIFO leaves": lost_reader,
    "source killed": killed_source,
    "source frozen, then SIGTERM": frozen_source,
    "corrupted bytes": corrupted,
}


# ----------------------------------------------------------------------------------- a run


def start(setting: Setting, source: str = "", frames: str = "", json_report: bool = True) -> None:
    command = [
        sys.executable, "-m", "visolo.cli", "run", setting.model,
        source or str(setting.source), str(setting.folder / "second.ts"),
        "--backend", "onnxruntime", "--threads", "1",
        "--results", str(setting.out / "r.json"), "--video", str(setting.out / "v"),
        "--frames", frames or str(setting.out / "f.jsonl"), *(["--json"] if json_report else []),
    ]  # fmt: skip
    setting.process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE if source == "-" else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(setting.spool)},
    )


def can_mount() -> bool:
    """Whether a small file system can be mounted, which the full disk needs."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            with small_disk(Path(folder), 4):
                return True
        except subprocess.CalledProcessError:
            return False


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[Path]:
    """A folder that is soon full.

    Raises:
        CalledProcessError: if this user may not mount one.
    """
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    subprocess.run(mount, check=True, capture_output=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@contextmanager
def prepared(model: str, chance: random.Random, small: bool) -> Iterator[Setting]:
    """A folder with two sources; with an output folder on a file system of its own if it is to be
    small."""
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        setting = Setting(Path(name), model, chance)
        setting.spool.mkdir()
        setting.out.mkdir()
        write_video(setting.source, FRAMES, *SIZE)
        write_video(setting.folder / "second.ts", FRAMES, *SIZE)
        if not small:
            yield setting
            return
        with small_disk(setting.out, 4 * chance.randrange(1, 100)):
            yield setting


def run_one(fault: str, seed: int, model: str) -> Outcome:
    """One run with a fault; equal numbers choose the same moment, by frames and not by time."""
    chance = random.Random(f"{fault} {seed}")
    with prepared(model, chance, fault == "full disk") as setting:
        FAULTS[fault](setting)
        process, problems = setting.running, list[str]()
        waited = END_WITHIN_S if setting.statuses[0] not in (0, 1) else RUN_WITHIN_S
        report, errors = "", ""
        try:
            report, errors = process.communicate(timeout=waited)
        except subprocess.TimeoutExpired:
            problems.append(f"it still runs {waited:.0f} s after the fault")
            process.kill()
            report, errors = process.communicate()
        end_s = time.monotonic() - setting.fault_at
        status = process.returncode
        if status not in setting.statuses:
            problems.append(f"the exit status is {status}: {errors[-300:]}")
        if "Traceback" in errors or "Exception ignored" in errors:
            problems.append(errors[-600:])
        problems += _committed(setting, status, report or "")
        kept = ", ".join(sorted(path.name for path in _files(setting.out))) or "nothing"
        problems += _left(setting, status)
        return Outcome(fault, seed, status, end_s, kept, tuple(problems))


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.name[0] != "."]


def _left(setting: Setting, status: int) -> Iterator[str]:
    """Hidden files that should not be there."""
    if status == -signal.SIGKILL:
        again = subprocess.run(
            [
                sys.executable, "-m", "visolo.cli", "run", setting.model, str(setting.source),
                str(setting.source), "--backend", "onnxruntime", "--max-frames", "1",
                "--results", str(setting.out / "r.json"), "--video", str(setting.out / "v"),
                "--frames", str(setting.out / "f.jsonl"),
            ],
            env={**os.environ, "TMPDIR": str(setting.spool)},
            capture_output=True,
            text=True,
            check=False,
        )  # fmt: skip
        if again.returncode != 0:
            yield f"the next run fails: {again.stderr[-300:]}"
    hidden = [path for path in setting.out.rglob(".*") if path.is_file()]
    hidden += list(setting.spool.glob("*visolo*"))
    if hidden:
        yield f"left behind: {', '.join(path.name for path in hidden)}"


def _committed(setting: Setting, status: int, report: str) -> Iterator[str]:
    """Whether what was committed is readable, and agrees on how far the run came."""
    files = {path.name: path for path in _files(setting.out)}
    if status == 2:
        if files:
            yield f"refused, and yet there are {', '.join(files)}"
        return
    expected = {"f.jsonl", "r.json"} - setting.may_be_missing
    if status == 0:  # nothing failed: the videos may lack only a source without a frame
        expected |= {"2.mp4"} - setting.may_be_missing
    if (status > 128 or status < 0) and not report:
        expected = set()  # it ended before it began
    if missing := expected - set(files):
        yield f"missing: {', '.join(missing)}"
    counts = _counts(files)
    if isinstance(counts, str):
        yield counts
        return
    stated = {}
    with suppress(ValueError):
        stated = dict(enumerate(json.loads(report)["streams"], start=1))
    for number in (1, 2):
        lengths = {name: each[number] for name, each in counts.items() if number in each}
        if number in stated and "f.jsonl" in files:
            lengths["stated"] = stated[number]["frames"]
        if len(set(lengths.values())) > 1 and status != -signal.SIGKILL:
            yield f"source {number} has other lengths in other outputs: {lengths}"
        shorter = setting.all_may_be_shorter or (number == 1 and setting.may_be_shorter)
        if not shorter and (short := {n for n, each in lengths.items() if each != FRAMES}):
            yield f"source {number} should be whole: {short} of {lengths}"


def _counts(files: dict[str, Path]) -> dict[str, dict[int, int]] | str:
    """Frames with results of each source in each output; or what cannot be read."""
    counts: dict[str, dict[int, int]] = {}
    ends: dict[int, int] = {}
    try:
        if "f.jsonl" in files:
            text = files["f.jsonl"].read_text()
            if text and not text.endswith("\n"):
                return "the last line is cut"
            lines = [json.loads(line) for line in text.splitlines()]
            of_source = {n: [each for each in lines if each["video_id"] == n] for n in (1, 2)}
            for number, its in of_source.items():
                if [each["frame"] for each in its] != list(range(len(its))):
                    return f"frames of source {number} are missing in the lines"
                ends[number] = len(its)
            counts["f.jsonl"] = {
                number: sum("skipped" not in each for each in its)
                for number, its in of_source.items()
            }
        for number in (1, 2):
            if (name := f"{number}.mp4") in files:
                with av.open(str(files[name])) as container:
                    counts[name] = {number: len(list(container.decode(video=0)))}
        if "r.json" in files:
            for each in json.loads(files["r.json"].read_text()):
                length = len(each["segmentations"])
                if length != ends.get(each["video_id"], length):
                    return f"a track of source {each['video_id']} has {length} frames, not {ends}"
    except (ValueError, KeyError, av.FFmpegError) as error:
        return f"unreadable: {error!r}"
    return counts


# -------------------------------------------------------------------------------- the table


def table(outcomes: list[Outcome]) -> str:
    """A row for each fault."""
    rows = ["| fault | runs | exit status (runs) | longest time to the end, s | problems |"]
    rows.append("|---|---|---|---|---|")
    for fault in FAULTS:
        its = [each for each in outcomes if each.fault == fault]
        if not its:
            continue
        statuses = Counter(each.status for each in its)
        listed = ", ".join(f"{status} ({count})" for status, count in sorted(statuses.items()))
        longest = max(each.end_s for each in its)
        problems = sum(bool(each.problems) for each in its)
        rows.append(f"| {fault} | {len(its)} | {listed} | {longest:.1f} | {problems} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of the first run")
    parser.add_argument("--model", default="shapes")
    parser.add_argument("--parallel", type=int, default=1)
    parser.add_argument("--log", type=Path, help="write a json line for each run here")
    arguments = parser.parse_args()
    jobs = list(range(arguments.seed, arguments.seed + arguments.runs))
    outcomes: list[Outcome] = []
    lock = threading.Lock()

    def work() -> None:
        names = list(FAULTS)
        while True:
            with lock:
                if not jobs:
                    return
                seed = jobs.pop(0)
            outcome = run_one(names[seed % len(names)], seed, arguments.model)
            with lock:
                outcomes.append(outcome)
                if arguments.log:
                    with arguments.log.open("a") as log:
                        log.write(json.dumps(outcome.__dict__) + "\n")
                for problem in outcome.problems:
                    print(f"{outcome.fault}, seed {outcome.seed}: {problem}", file=sys.stderr)

    workers = [threading.Thread(target=work) for _ in range(arguments.parallel)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    print(table(outcomes))
    raise SystemExit(any(outcome.problems for outcome in outcomes))


if __name__ == "__main__":
    main()
