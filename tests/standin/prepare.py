"""Builds pycuda, which has no wheel, for a machine without a CUDA toolkit and without a driver.

    python tests/standin/prepare.py FOLDER

Once: a later call sees the wheel and does nothing. Optimisation is off, for a build of one minute.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

_PYCUDA = "pycuda==2026.1"
_HEADERS = ("nvidia-cuda-runtime==13.0.*", "nvidia-cuda-profiler-api==13.0.*")


def prepare(folder: Path) -> None:
    """Headers to ``headers``, pycuda to ``site``, its wheel to ``wheels``."""
    headers, wheels = folder / "headers", folder / "wheels"
    if not headers.exists():
        _pip("install", "--no-deps", "--target", headers, *_HEADERS)
    if not any(wheels.glob("pycuda*.whl")):
        with tempfile.TemporaryDirectory() as scratch:
            _build_wheel(headers / "nvidia" / "cu13" / "include", wheels, Path(scratch))
    if not (folder / "site").exists():
        _pip("install", "--no-deps", "--target", folder / "site", *wheels.glob("pycuda*.whl"))


def _build_wheel(include: Path, wheels: Path, scratch: Path) -> None:
    _pip("download", "--no-deps", "--no-binary", "pycuda", "--dest", scratch, _PYCUDA)
    (archive,) = scratch.glob("pycuda*.tar.gz")
    with tarfile.open(archive) as sources:
        sources.extractall(scratch, filter="data")
    (tree,) = (path for path in scratch.glob("pycuda*") if path.is_dir())
    (tree / "siteconf.py").write_text("CUDA_ENABLE_CURAND = False\n")
    # An empty library to link with: its symbols are looked up when pycuda is imported.
    library = scratch / "libcuda.so"
    link = ["gcc", "-shared", "-Wl,-soname,libcuda.so.1"]
    subprocess.run([*link, "-o", str(library), "-xc", os.devnull], check=True)
    settings = {"CPATH": include, "LIBRARY_PATH": scratch, "CFLAGS": "-O0 -g0 -w"}
    _pip("wheel", "--no-deps", "--wheel-dir", wheels, tree, **settings)


def _pip(*arguments: object, **settings: object) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", *map(str, arguments)]
    environment = os.environ | {name: str(value) for name, value in settings.items()}
    subprocess.run(command, check=True, env=environment)


if __name__ == "__main__":
    prepare(Path(sys.argv[1]).resolve())
