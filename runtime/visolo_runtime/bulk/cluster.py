"""Ray: a cluster on this machine that lives as long as the run, or one that is there already."""

from __future__ import annotations

import logging
import os
import re
import secrets
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visolo_core.errors import VisoloError
from visolo_runtime.bulk.plan import Job

_ANSWER_S = 5.0
_STORE_BYTES = 100_000_000  # rows of text are all that is in it
_HOST = re.compile(r"(?:ray://)?(?P<host>\[[0-9a-fA-F:]+\]|[^:/\s]+):(?P<port>[0-9]{1,5})")


_THREADS = 4
"""Of a worker, unless something else is asked for: more make a frame little faster."""


class NotStartedError(VisoloError):
    """Ray could not be started on this machine, which may be busy: it gives itself 30 seconds."""


@dataclass(frozen=True)
class Share:
    """What each worker takes of its machine."""

    workers: int
    threads: int
    """of its engines; 0 lets the library choose"""
    cpus: int
    gpus: float


def environment(address: str, folder: Path | None) -> dict[str, str]:
    """Variables of the process that talks to Ray.

    Args:
        address: of a cluster; empty for one on this machine.
        folder: for the files of one on this machine.
    """
    quiet = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_BACKEND_LOG_LEVEL": "fatal",
        "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }
    local = {
        # Ray listens on all addresses, and runs what it is sent: nobody else may send.
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_TMPDIR": str(folder),
        # By default Ray lets its workers wait for all other processes.
        "RAY_worker_niceness": "0",
        # A dead cluster on this machine is noticed at once.
        "RAY_gcs_rpc_server_reconnect_timeout_s": "5",
    }
    chosen: Mapping[str, str] = quiet if address else {**quiet, **local}
    inherited = {
        name: value
        for name, value in os.environ.items()
        if address or name not in ("RAY_ADDRESS", "RAY_AUTH_TOKEN_PATH", "RAY_NAMESPACE")
    }
    return {**inherited, **chosen}


def check_address(address: str) -> None:
    """Make sure that something listens at the address of a cluster.

    Raises:
        VisoloError: if nothing does, or it is no address.
    """
    if address in ("", "auto"):
        return
    match = _HOST.fullmatch(address)
    if match is None:
        raise VisoloError(f"--address '{address}' is no address: write HOST:PORT, or auto")
    try:
        with socket.create_connection((match["host"].strip("[]"), int(match["port"])), _ANSWER_S):
            pass
    except (OSError, OverflowError) as error:
        raise VisoloError(
            f"no Ray cluster answers at '{address}': start one with ray start --head, or leave out "
            "--address"
        ) from error


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Ray during the block.

    Args:
        address: of a cluster; empty starts one on this machine, which ends with this process.

    Raises:
        NotStartedError: if it cannot be started here.
        VisoloError: if the cluster cannot be used.
    """
    import ray

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if address:
        options["address"] = address
    else:
        options |= {"include_dashboard": False, "object_store_memory": _STORE_BYTES}
        options["num_cpus"] = _cores()
    try:
        ray.init(**options)
    except Exception as error:  # Ray has no common class for what may be wrong
        first = next(iter(str(error).splitlines()), type(error).__name__)
        if not address:
            raise NotStartedError(f"cannot start Ray on this machine: {first}") from error
        if any("InvalidAuthToken" in str(each) for each in _causes(error)):
            raise VisoloError(
                f"the Ray cluster at '{address}' asks for its token: set RAY_AUTH_MODE=token and "
                "RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH"
            ) from error
        raise VisoloError(f"cannot use the Ray cluster at '{address}': {first}") from error
    try:
        yield
    finally:
        if address:
            ray.shutdown()


def _cores() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def share_of(job: Job) -> Share:
    """How many workers the cluster has place for, and what each takes.

    Raises:
        VisoloError: if there is place for none.
    """
    import ray

    there = ray.cluster_resources()
    return share(job, int(there.get("CPU", 0)), int(there.get("GPU", 0)))


def share(job: Job, cpus: int, gpus: int) -> Share:
    """The same for a number of processors and GPUs.

    Raises:
        VisoloError: if there is place for no worker.
    """
    if job.device.startswith("cuda") and not gpus:
        raise VisoloError(f"the cluster has no GPU, but --device is {job.device}: leave it out")
    takes_gpu = bool(gpus) and job.device != "cpu"
    workers = job.workers or (gpus if takes_gpu else max(1, cpus // (job.threads or _THREADS)))
    if job.threads:
        threads = job.threads
    elif job.address:
        threads = min(_THREADS, max(1, cpus // workers))
    else:
        threads = max(1, cpus // workers)
    place = min(cpus // threads, gpus) if takes_gpu else cpus // threads
    if place < 1:
        raise VisoloError(
            f"the cluster has {cpus} processors, but a worker takes {threads}: lower --threads"
        )
    if job.workers > place:
        raise VisoloError(
            f"there is place for {place} workers with {threads} processors each, not for "
            f"{job.workers}: lower --workers or --threads"
        )
    alone = workers == 1 and not job.threads and not job.address
    return Share(min(workers, place), 0 if alone else threads, threads, float(takes_gpu))
