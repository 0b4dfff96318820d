"""A training on two machines, which are network namespaces here: killed, joined again, resumed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

import skips
from visolo_core.nn.checkpoint import load_checkpoint
from visolo_core.nn.tensor_files import load_tensors

STEPS = 40
LIMIT_S = 600.0
MEETING = "10.77.0.1"
SETTINGS = [
    "network.preset=lite", "network.width=16", "network.groups=4", "network.mask_width=16",
    "network.backbone_width=16", "network.backbone_norm=frozen", "network.input_size=[64,96]",
    "network.grid=[4,6]", f"schedule.steps={STEPS}", "schedule.batch=2", "schedule.warm_up=2",
    "schedule.precision=float32", "schedule.learning_rate=1e-4", "run.workers=0",
    "run.save_every=1", "run.tensorboard=false", "run.device=cpu",
]  # fmt: skip
OPTIONS = [part for setting in SETTINGS for part in ("--set", setting)]


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def may_make_namespaces() -> bool:
    try:
        ip("netns", "add", "visolo-try")
    except (OSError, subprocess.CalledProcessError):
        return False
    ip("netns", "del", "visolo-try")
    return True


pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not may_make_namespaces(), reason=skips.NEEDS_NAMESPACES),
]


@dataclass
class Node:
    """One machine."""

    name: str
    address: str
    process: subprocess.Popen[bytes] | None = field(default=None)

    def train(self, folder: Path) -> None:
        """Begin what every machine runs, with the same words but for its own address."""
        with (folder.parent / f"{folder.name}-{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *("ip", "netns", "exec", self.name),
                    *(sys.executable, "-m", "torch.distributed.run", "--nnodes", "2"),
                    *("--nproc-per-node", "1", "--max-restarts", "5", "--rdzv-backend", "c10d"),
                    *("--rdzv-endpoint", f"{MEETING}:29400", "--rdzv-id", "visolo"),
                    # By its host's name, which both machines share here, it would not know itself.
                    *("--rdzv-conf", f"is_host={int(self.address == MEETING)},join_timeout=60"),
                    *("--local-addr", self.address, "-m", "visolo.cli", "train", "lite_synth"),
                    *("-o", str(folder), "--resume", *OPTIONS),
                ],
                env={**os.environ, "GLOO_SOCKET_IFNAME": self.name, "OMP_NUM_THREADS": "1"},
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )

    def kill_worker(self) -> None:
        """As if its process had run out of memory."""
        workers = [pid for pid in self._processes() if b"--rdzv-id" not in _words_of(pid)]
        assert workers
        for pid in workers:
            os.kill(pid, signal.SIGKILL)

    def kill(self) -> None:
        """As if its power had gone."""
        if self.process is not None:
            for pid in self._processes():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.wait()

    def _processes(self) -> list[int]:
        listed = subprocess.run(
            ["ip", "netns", "pids", self.name], capture_output=True, text=True, check=False
        )
        return [int(pid) for pid in listed.stdout.split()]

    def end(self) -> int:
        assert self.process is not None
        return self.process.wait(LIMIT_S)


def _words_of(pid: int) -> list[bytes]:
    return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")


@pytest.fixture
def nodes() -> Iterator[tuple[Node, Node]]:
    first, second = (
        Node(f"v{os.getpid()}{letter}", address)
        for letter, address in (("a", MEETING), ("b", "10.77.0.2"))
    )
    for each in (first, second):
        ip("netns", "add", each.name)
    try:
        # Each end of the cable is called like its machine, and so known to GLOO_SOCKET_IFNAME.
        ip("link", "add", first.name, "type", "veth", "peer", "name", second.name)
        for each in (first, second):
            ip("link", "set", each.name, "netns", each.name)
            ip("-n", each.name, "addr", "add", f"{each.address}/24", "dev", each.name)
            ip("-n", each.name, "link", "set", each.name, "up")
            ip("-n", each.name, "link", "set", "lo", "up")
        yield first, second
    finally:
        for each in (first, second):
            each.kill()
            ip("netns", "del", each.name)


def checkpointed(folder: Path) -> int:
    path = folder / "checkpoint.pt"
    return int(load_tensors(path)["step"]) if path.exists() else 0


def wait_for(folder: Path, step: int) -> None:
    limit = time.monotonic() + LIMIT_S
    while checkpointed(folder) < step:
        assert time.monotonic() < limit, f"step {step} was not reached"
        time.sleep(0.05)


def test_killed_machines(nodes: tuple[Node, Node], tmp_path: Path) -> None:
    first, second = nodes
    one, whole, killed = (tmp_path / name for name in ("one", "whole", "killed"))
    alone = [sys.executable, "-m", "visolo.cli", "train", "lite_synth", "-o", str(one), *OPTIONS]
    subprocess.run(alone, check=True, capture_output=True)
    for each in nodes:
        each.train(whole)
    assert [each.end() for each in nodes] == [0, 0]

    for each in nodes:
        each.train(killed)
    wait_for(killed, 5)
    second.kill_worker()  # torchrun begins both again
    wait_for(killed, 15)
    second.kill()  # the other waits for it, and ends
    assert first.end() != 0
    assert checkpointed(killed) < STEPS
    for each in nodes:
        each.train(killed)
    assert [each.end() for each in nodes] == [0, 0]

    ours, theirs, alone_weights = (
        load_checkpoint(folder / "weights.safetensors").state for folder in (killed, whole, one)
    )
    for name, values in ours.items():
        assert values.equal(theirs[name]), name
        # One process adds up in another order: see test_training.test_two_processes_are_one.
        assert (values - alone_weights[name]).abs().max() <= 2 * STEPS * 1e-4, name
    distance = [float((v - alone_weights[n]).abs().mean()) for n, v in ours.items()]
    assert np.mean(distance) < 2e-5


def test_a_folder_that_is_not_shared(nodes: tuple[Node, Node], tmp_path: Path) -> None:
    """Weights of two different moments are never mixed."""
    first, second = nodes
    folder = tmp_path / "run"
    for each in nodes:
        each.train(folder)
    wait_for(folder, 3)
    for each in nodes:
        each.kill()
    first.train(folder)
    second.train(tmp_path / "other")
    assert all(each.end() != 0 for each in nodes)
    said = (tmp_path / f"run-{first.name}.log").read_text()
    assert "found different checkpoints" in said
    assert "name a folder that all machines share" in said
