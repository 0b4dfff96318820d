"""Runs a model repository with the server of the package ``nvidia-pytriton``.

That package holds a whole Triton with its Python backend. It is installed in an environment of its
own, since it needs another NumPy: docs/triton.md says how.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import visolo_core
import visolo_runtime

LONGEST_START_S = 120.0
LONGEST_STOP_S = 30.0
_SHOWN = 4000  # characters of the log, if something fails


class NotServedError(Exception):
    """The server ended instead of getting ready; its log is the message."""


class TritonServer:
    """A server in a process group of its own, from its start to the end of a ``with`` block.

    Args:
        repository: its models.
        work: a folder for the backend and the log.

    Raises:
        NotServedError: if a model cannot be loaded.
        ModuleNotFoundError: if nvidia-pytriton is not installed.
    """

    def __init__(self, repository: Path, work: Path) -> None:
        self.log_file = work / "server.log"
        ports = free_ports(3)
        self.http, self.grpc = (f"127.0.0.1:{port}" for port in ports[:2])
        packages = pytriton_folder().parent
        library_path = str(packages / "nvidia_pytriton.libs")
        python = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        command: list[str | Path] = [
            packages / "pytriton/tritonserver/bin/tritonserver",
            f"--model-repository={repository}",
            f"--backend-directory={_backends(work)}",
            f"--http-port={ports[0]}", f"--grpc-port={ports[1]}", f"--metrics-port={ports[2]}",
            "--http-address=127.0.0.1", "--grpc-address=127.0.0.1",
        ]  # fmt: skip
        with self.log_file.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                env={**os.environ, "LD_LIBRARY_PATH": library_path, "PATH": python},
                start_new_session=True,
            )
        self._wait_until_ready()

    @property
    def log(self) -> str:
        """What the server and its models have printed so far."""
        return self.log_file.read_text(errors="replace")

    def kill(self) -> None:
        """End the server and its models at once, as a loss of power would."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(LONGEST_STOP_S)

    def model_processes(self) -> list[int]:
        """The process numbers of the models' own processes."""
        listed = subprocess.run(
            ["pgrep", "-g", str(self._process.pid), "-f", "triton_python_backend_stub"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return [int(word) for word in listed.stdout.split()]

    def processor_s(self) -> float:
        """Seconds that the server and its models have computed so far."""
        ticks = 0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):  # a process that has just ended
                fields = stat.read_text().rpartition(")")[2].split()
                if int(fields[2]) == self._process.pid:  # its group
                    ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def _wait_until_ready(self) -> None:
        end = time.monotonic() + LONGEST_START_S
        while self._process.poll() is None and time.monotonic() < end:
            if is_ready(f"http://{self.http}/v2/health/ready"):
                return
            time.sleep(0.1)
        self._stop()
        raise NotServedError(self.log)

    def _stop(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(LONGEST_STOP_S)
            except subprocess.TimeoutExpired:
                self.kill()

    def __enter__(self) -> TritonServer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()
        if kind is not None:
            print(self.log[-_SHOWN:], file=sys.stderr)


def pytriton_folder() -> Path:
    """The folder of the package ``pytriton``, which is not imported.

    Raises:
        ModuleNotFoundError: if nvidia-pytriton is not installed.
    """
    spec = importlib.util.find_spec("pytriton")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("nvidia-pytriton is not installed: see docs/triton.md")
    return Path(spec.origin).parent


def is_ready(address: str) -> bool:
    """Whether an address of a server's health answers that all is well."""
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens on."""
    listeners = [socket.socket() for _ in range(count)]
    for each in listeners:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in listeners]
    for each in listeners:
        each.close()
    return ports


def _backends(work: Path) -> Path:
    """The folder of the Python backend, with the program for this Python's version."""
    server, backends = pytriton_folder() / "tritonserver", work / "backends"
    if not backends.exists():
        shutil.copytree(server / "backends", backends)
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        stub = "triton_python_backend_stub"
        shutil.copy(server / "python_backend_stubs" / version / stub, backends / "python" / stub)
        # The program ignores PYTHONPATH, and finds modules beside its own.
        for package in (visolo_core, visolo_runtime):
            (backends / "python" / package.__name__).symlink_to(Path(package.__path__[0]).resolve())
    return backends
