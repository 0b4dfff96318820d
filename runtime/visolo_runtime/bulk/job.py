"""The process that talks to Ray. ``python -m visolo_runtime.bulk.job DESCRIPTOR`` reads the job and
the videos from standard input, one line each, and writes what becomes of them to a descriptor.

It is a process of its own because Ray's core ends the process that uses it when the cluster's head
is lost. It ends when its standard input does, and with it a cluster on this machine.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TextIO

from visolo_core.errors import VisoloError
from visolo_runtime.bulk.cluster import NotStartedError, Share, connected, share_of
from visolo_runtime.bulk.manifest import Row
from visolo_runtime.bulk.plan import BulkVideo, Job
from visolo_runtime.bulk.worker import REFUSED, BulkWorker, row_in

NOT_STARTED = "not started"
"""What an end may be beside those of a worker."""

_MOST_TASKS = 4000
_BATCHES_EACH = 8
"""Batches that each worker should have at least, before several videos wait in one."""
_QUEUED = 4
"""Videos in a batch for each that runs: where one is over the next begins, and none waits for the
longest."""


def run(job: Job, videos: Sequence[BulkVideo], tell: Callable[[dict[str, Any]], None]) -> None:
    """Run all videos, and again those that fail.

    Args:
        job: what is done with them.
        videos: in their order.
        tell: receives ``workers`` with their number, ``row`` with each row, and ``ended`` with a
            sentence if the run cannot go on.

    Raises:
        VisoloError: if Ray cannot be used.
    """
    with connected(job.address):
        share = share_of(job)
        job = replace(job, threads=share.threads)
        tell({"workers": share.workers})
        left = list(videos)
        for attempt in range(1, job.retries + 2):
            failed = set[str]()
            for answer in _answers(job, left, share, attempt):
                row = row_in(answer)
                if not isinstance(row, Row):
                    tell({"ended": row[1], "kind": row[0]})
                    return
                again = row.status == "failed" and attempt <= job.retries
                tell({"row": row.as_text(), "again": again})
                if again:
                    failed.add(row.key)
            left = [video for video in left if video.key in failed]
            if not left:
                return


def _answers(job: Job, videos: Sequence[BulkVideo], share: Share, attempt: int) -> Iterator[str]:
    """What workers answer, in the order in which it comes."""
    import ray.data

    rows = _batch_rows(job, len(videos), share.workers)
    tasks = min(_MOST_TASKS, -(-len(videos) // rows))
    workers = min(share.workers, tasks)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    for name in ("ray.data", "ray"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # A worker that dies is begun again, anywhere, and so is what it had in hand.
    data = ray.data.from_items(
        [{"video": video.as_text()} for video in videos], override_num_blocks=tasks
    ).map_batches(
        BulkWorker,
        fn_constructor_args=(job.as_text(), attempt),
        batch_size=rows,
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_cpus=share.cpus,
        num_gpus=share.gpus,
        max_restarts=-1,
        max_task_retries=-1,
    )
    for batch in data.iter_batches(batch_size=None, prefetch_batches=0):
        yield from map(str, batch["answer"])


def _batch_rows(job: Job, videos: int, workers: int) -> int:
    """Videos in a batch."""
    if job.per_worker == 1:
        return 1
    many = job.per_worker * _QUEUED
    return many if videos >= many * workers * _BATCHES_EACH else job.per_worker


def main() -> None:
    """Entry point of the process."""
    descriptor = int(sys.argv[1])
    os.set_inheritable(descriptor, False)  # or the command would not see the end of this process
    channel = os.fdopen(descriptor, "w", encoding="utf-8")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command decides, and closes standard input
    job = Job.from_text(sys.stdin.readline())
    count = int(sys.stdin.readline())
    videos = [BulkVideo.from_text(sys.stdin.readline()) for _ in range(count)]
    threading.Thread(target=_end_with_the_command, daemon=True).start()

    def tell(what: dict[str, Any]) -> None:
        _write(channel, what)

    try:
        run(job, videos, tell)
    except NotStartedError as error:
        tell({"ended": str(error), "kind": NOT_STARTED})
    except VisoloError as error:
        tell({"ended": str(error), "kind": REFUSED})
    except Exception as error:
        tell({"ended": _in_a_sentence(error), "kind": "lost"})
    tell({"over": True})


def _write(channel: TextIO, what: dict[str, Any]) -> None:
    channel.write(json.dumps(what) + "\n")
    channel.flush()


def _end_with_the_command() -> None:
    """When the command is gone, whatever ended it, nobody needs the results."""
    while sys.stdin.read(1):
        pass
    os.killpg(0, signal.SIGKILL)


def _in_a_sentence(error: Exception) -> str:
    """What went wrong in Ray: the last line of what may be a long report."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if "No module named 'visolo" in str(error):
        return "a machine of the cluster has no visolo: install the same version on all of them"
    return f"Ray ended ({type(error).__name__}: {lines[-1] if lines else 'without a reason'})"


if __name__ == "__main__":
    main()
