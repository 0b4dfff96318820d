"""Build ``visolo`` and ``visolo-gpu`` from one tree, a wheel and a source archive each.

    python tools/build_distributions.py [dist]

``visolo``'s source archive is built from the tree and unpacked. The wheel and, under the other
name, the two files of ``visolo-gpu`` are built from that copy, so a file missing from the
archive is noticed at once.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
CPU, GPU = "visolo", "visolo-gpu"


def build(target: str, source: Path, output: Path) -> None:
    """Let hatchling build a ``wheel`` or ``sdist`` of a source folder into an output folder."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(output)]
    subprocess.run(command, cwd=source, check=True)


def unpacked(archive: Path, folder: Path) -> Path:
    """The one folder of a source archive, unpacked into a new folder."""
    with tarfile.open(archive) as opened:
        opened.extractall(folder)  # no filter: Python 3.11.0 has none, and the archive is ours
    (inner,) = folder.iterdir()
    return inner


def rename(source: Path) -> None:
    """Make an unpacked source archive one of ``visolo-gpu``."""
    project = source / "pyproject.toml"
    text, times = re.subn(
        rf'^name = "{CPU}"$', f'name = "{GPU}"', project.read_text(encoding="utf-8"), flags=re.M
    )
    if times != 1:
        raise SystemExit(f"'{project}' has {times} lines 'name = \"{CPU}\"', expected one")
    project.write_text(text, encoding="utf-8")
    # hatchling would read the dependencies from this file instead of calling the hook again.
    (source / "PKG-INFO").unlink()


def build_all(output: Path) -> None:
    """Build all four files; earlier ones in the output folder are replaced.

    Args:
        output: a folder, created if it does not exist.
    """
    output = output.absolute()
    for pattern in ("visolo-*.whl", "visolo-*.tar.gz", "visolo_gpu-*.whl", "visolo_gpu-*.tar.gz"):
        for earlier in output.glob(pattern):
            earlier.unlink()
    build("sdist", ROOT, output)
    (archive,) = output.glob("visolo-*.tar.gz")
    with tempfile.TemporaryDirectory(prefix="visolo-build-") as folder:
        source = unpacked(archive, Path(folder))
        build("wheel", source, output)
        rename(source)
        build("sdist", source, output)
        build("wheel", source, output)


def main() -> None:
    """Build into the named folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, nargs="?", default=ROOT / "dist")
    options = parser.parse_args()
    if importlib.util.find_spec("hatchling") is None:
        raise SystemExit("hatchling builds the packages and is missing: run pip install hatchling")
    build_all(options.output)


if __name__ == "__main__":
    main()
