"""Run the steps of ``docker/cpu/Dockerfile`` without a container engine, and check the result.

    python tools/check_container.py

The environment must have the versions of ``constraints.txt`` and no PyTorch, link nothing that the
slim image lacks, run the demo, and serve the page.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from importlib import metadata
from pathlib import Path
from urllib.request import urlopen

from visolo_runtime.engines.onnxruntime.libraries import needed_libraries
from write_constraints import plain_name

ROOT = Path(__file__).parents[1]
IN_THE_IMAGE = {
    "libc.so.6", "libdl.so.2", "libm.so.6", "libmvec.so.1", "libpthread.so.0", "librt.so.1",
    "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1", "libgcc_s.so.1", "libstdc++.so.6", "libz.so.1",
}  # fmt: skip
"""Libraries of ``python:3.11-slim-bookworm``: glibc's, GCC's and zlib."""
UNUSED = {"libopenvino_intel_gpu_plugin.so"}
"""Plugins that are never loaded."""


def faults(environment: Path, constraints: str) -> list[str]:
    """What is wrong with an environment for the image; a sentence each.

    Args:
        environment: a virtual environment.
        constraints: text of ``constraints.txt``.
    """
    pins = dict(line.split("==") for line in constraints.splitlines() if "==" in line)
    (site,) = environment.glob("lib/python*/site-packages")
    wrong = []
    for each in metadata.distributions(path=[str(site)]):
        name = plain_name(each.metadata["Name"])
        if name == "visolo":
            continue
        if name not in pins:
            wrong.append(f"{name} {each.version} is not in constraints.txt")
        elif pins[name] != each.version:
            wrong.append(f"{name} {each.version} is installed, not {pins[name]}")
    libraries = [path for path in site.rglob("*.so*") if _is_library(path)]
    there = IN_THE_IMAGE | {path.name for path in libraries}
    for path in libraries:
        missing = set(needed_libraries(path)) - there
        if missing and path.name not in UNUSED:
            wrong.append(f"{path.name} links {', '.join(sorted(missing))}, which the image lacks")
    return wrong


def _is_library(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def check_server(command: list[str], environment: dict[str, str]) -> None:
    """Start a server, ask whether it works, and stop it as a container engine does."""
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            address = server.stdout.readline().strip()
            with urlopen(f"{address}api/health", timeout=30) as answer:
                print(f"{address} says {answer.read().decode()}")
        finally:
            server.terminate()
    if server.returncode not in (0, 128 + signal.SIGTERM):
        raise SystemExit(f"the server ended with status {server.returncode}")


def main() -> None:
    """Exit status 1, and a sentence for each fault, if something is wrong."""
    outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with tempfile.TemporaryDirectory(prefix="visolo-container-") as folder:
        place = Path(folder)
        environment = place / "visolo"
        visolo = str(environment / "bin/visolo")
        for command in (
            [str(ROOT / "docker/cpu/install"), str(environment)],
            [visolo, "doctor"],
            [visolo, "demo", "--videos", "2", "--frames", "12"],
        ):
            subprocess.run(command, cwd=place, env=outside, check=True)
        check_server([visolo, "serve", "shapes", "--port", "0"], outside)
        wrong = faults(environment, (ROOT / "constraints.txt").read_text(encoding="utf-8"))
    if wrong:
        raise SystemExit("\n".join(wrong))


if __name__ == "__main__":
    main()
