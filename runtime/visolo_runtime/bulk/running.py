"""The command's side of a bulk run: what is to be done, what came of it, and how it ends."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from visolo_core import temporaries
from visolo_core.errors import VisoloError
from visolo_runtime.bulk.cluster import NotStartedError, check_address, environment
from visolo_runtime.bulk.folder import BulkFolder
from visolo_runtime.bulk.inputs import videos_of, with_content
from visolo_runtime.bulk.job import NOT_STARTED
from visolo_runtime.bulk.keys import with_key
from visolo_runtime.bulk.manifest import Row
from visolo_runtime.bulk.plan import BulkVideo, Job
from visolo_runtime.bulk.worker import REFUSED

_STARTS = 3
_LONGEST_PLACE = 20
"""Characters: below it, Ray makes sockets, whose paths may have 107."""


@dataclass
class BulkSummary:
    """What a bulk run did."""

    videos: int
    """that were asked for"""
    already: int = 0
    """that were done before"""
    rows: list[Row] = field(default_factory=list)
    """of the videos, as far as they have any"""
    ended: str = ""
    """why the run ended before its videos did"""

    @property
    def failed(self) -> list[Row]:
        return [row for row in self.rows if row.status == "failed"]

    @property
    def done(self) -> int:
        return sum(row.status == "done" for row in self.rows)

    @property
    def exit_status(self) -> int:
        return int(bool(self.ended or self.done < self.videos))

    def as_dict(self) -> dict[str, Any]:
        """Ready for json."""
        return {
            "videos": self.videos,
            "done": self.done,
            "already_done": self.already,
            "frames": sum(row.frames for row in self.rows),
            "failed": [{"input": row.input, "reason": row.reason} for row in self.failed],
            "ended": self.ended or None,
        }


@dataclass
class BulkListeners:
    """What wants to know how a run is going."""

    read: Callable[[int, int], None] = lambda done, of: None
    """called for each video whose content is known"""
    begun: Callable[[int, int], None] = lambda already, of: None
    """called with the number of videos that are done, and of all"""
    row: Callable[[Row, bool], None] = lambda row, again: None
    """called for each video that is over, and whether it will be tried again"""


def run_bulk(
    job: Job,
    inputs: Sequence[str],
    images: Path | None = None,
    listeners: BulkListeners | None = None,
) -> BulkSummary:
    """Run what is not done yet.

    Args:
        job: what to do; its run is given a name here.
        inputs: as for ``videos_of``.
        images: folder of a data set's frames.
        listeners: receive what happens.

    Raises:
        VisoloError: if an input, the folder or the cluster cannot be used.
        KeyboardInterrupt: after Ctrl-C; what was committed is in the manifest.
    """
    listeners = listeners or BulkListeners()
    check_address(job.address)
    job = replace(job, run=secrets.token_hex(8))
    found = videos_of(inputs, images)
    folder = BulkFolder(job.root)
    with folder.held(job.run):
        videos: list[BulkVideo] = []
        for video in with_content(found):
            videos.append(with_key(video, job.model_hash, job.settings))
            listeners.read(len(videos), len(found))
        done = folder.done(folder.rows())
        # Those of the same content and name are the same work.
        missing = list({video.key: video for video in videos if video.key not in done}.values())
        already = sum(video.key in done for video in videos)
        summary = BulkSummary(len(videos), already)
        listeners.begun(already, len(videos))
        try:
            if missing:
                summary.ended = _run(job, missing, listeners)
        finally:
            # Also after Ctrl-C: what was committed is in the manifest.
            with _noted(summary):
                summary.rows = folder.merge(videos)
            folder.clear()
    return summary


@contextmanager
def _noted(summary: BulkSummary) -> Iterator[None]:
    """A manifest that cannot be written is one more thing that the same command does again."""
    try:
        yield
    except VisoloError as error:
        summary.ended = summary.ended or str(error)


def _run(job: Job, videos: Sequence[BulkVideo], listeners: BulkListeners) -> str:
    """Let another process do the work; why it ended before the videos did, if it did.

    Raises:
        VisoloError: if no video can be run.
    """
    for _ in range(_STARTS - 1):
        try:
            return _run_once(job, videos, listeners)
        except NotStartedError:
            continue  # nothing has begun, and the machine may be less busy
    return _run_once(job, videos, listeners)


def _run_once(job: Job, videos: Sequence[BulkVideo], listeners: BulkListeners) -> str:
    with contextlib.ExitStack() as stack:
        folder = None if job.address else stack.enter_context(_ray_folder())
        errors = stack.enter_context(tempfile.TemporaryFile())
        process = stack.enter_context(_process(job, videos, folder, errors))
        for event in process:
            if "row" in event:
                listeners.row(Row.from_text(event["row"]), bool(event["again"]))
            elif "ended" in event:
                if event["kind"] == NOT_STARTED:
                    raise NotStartedError(str(event["ended"]))
                if event["kind"] == REFUSED:
                    raise VisoloError(str(event["ended"]))
                return str(event["ended"])
            elif "over" in event:
                return ""
        where = f"the Ray cluster at '{job.address}'" if job.address else "Ray on this machine"
        return f"{where} is lost: it was killed, or there is too little memory{_last(errors)}"


@contextmanager
def _process(
    job: Job, videos: Sequence[BulkVideo], folder: Path | None, errors: IO[bytes]
) -> Iterator[Iterator[dict[str, Any]]]:
    """The process that talks to Ray: what it tells, until it ends."""
    read, write = os.pipe()
    with os.fdopen(read, encoding="utf-8") as events:
        process = subprocess.Popen(
            [sys.executable, "-m", "visolo_runtime.bulk.job", str(write)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            pass_fds=[write],
            start_new_session=True,  # Ctrl-C of a terminal is for the command alone
            env=environment(job.address, folder),
        )
        os.close(write)
        try:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):  # it has ended: there are no events
                lines = [job.as_text(), str(len(videos)), *(video.as_text() for video in videos)]
                process.stdin.write("".join(f"{line}\n" for line in lines).encode())
                process.stdin.flush()
            yield map(json.loads, events)
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process, and with it everything that Ray has begun on this machine."""
    session = [process.pid, *_of_session(process.pid)]
    for number in session:
        with contextlib.suppress(OSError):
            os.kill(number, signal.SIGKILL)
    process.wait()
    assert process.stdin is not None
    with contextlib.suppress(OSError):
        process.stdin.close()


def _of_session(leader: int) -> Iterator[int]:
    """Processes of a session; Ray puts its workers into groups of their own."""
    if not Path("/proc").is_dir():  # another system than Linux: they end when Ray's node does
        return
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                if os.getsid(int(entry.name)) == leader:
                    yield int(entry.name)


@contextmanager
def _ray_folder() -> Iterator[Path]:
    """A folder for what Ray writes while it runs: sockets and logs."""
    place = Path(tempfile.gettempdir())
    if len(str(place)) > _LONGEST_PLACE:
        place = Path("/tmp")
    folder = temporaries.new_folder(place / "ray")
    try:
        yield folder
    finally:
        temporaries.remove(folder)


def _last(errors: IO[bytes]) -> str:
    """The error that a process of Python ended with, in brackets, if it did."""
    errors.seek(0)
    lines = errors.read().decode(errors="replace").strip().splitlines()
    is_error = bool(lines) and re.match(r"[\w.]+(Error|Exception|Exit)\b", lines[-1])
    return f" ({lines[-1].strip()})" if is_error else ""
