"""Write the newest versions that the ranges allow into ``constraints.txt``.

    python tools/write_constraints.py [constraints.txt]

Nothing is installed: pip only resolves what ``make test`` would install.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
EXTRAS = "export,train,dev"
HEADER = """\
# Exact versions for `make demo` and `make test`; `pip install visolo` keeps to the ranges.
# `make constraints` regenerates this file.
#
# PyTorch and the packages that vary with its build are not pinned: which build fits depends on the
# machine (CPU, CUDA version), and each build requires its own CUDA packages and caps setuptools.
"""
_OF_THE_MACHINE = re.compile(r"(torch|torchvision|triton|setuptools|(nvidia|cuda)-.*)$")


def plain_name(name: str) -> str:
    """A distribution's name as package indexes compare it.

    >>> plain_name("Typing_Extensions")
    'typing-extensions'
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def depends_on_the_machine(name: str) -> bool:
    """Whether a distribution must not be pinned, by its name.

    >>> depends_on_the_machine("nvidia-cublas"), depends_on_the_machine("numpy")
    (True, False)
    """
    return _OF_THE_MACHINE.match(plain_name(name)) is not None


def constraints(versions: Mapping[str, str]) -> str:
    """The file's text, from the version of each distribution."""
    pins = {plain_name(name): version for name, version in versions.items()}
    pins = {name: version for name, version in pins.items() if not depends_on_the_machine(name)}
    return HEADER + "".join(f"{name}=={pins[name]}\n" for name in sorted(pins))


def newest_versions() -> dict[str, str]:
    """What pip would install into an empty environment, this package left out."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        subprocess.run(
            [
                sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed",
                "--report", report, f"{ROOT}[{EXTRAS}]",
            ],
            check=True,
        )  # fmt: skip
        chosen = json.loads(report.read_text(encoding="utf-8"))["install"]
    return {
        each["metadata"]["name"]: each["metadata"]["version"]
        for each in chosen
        if not each["is_direct"]
    }


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, nargs="?", default=ROOT / "constraints.txt")
    options = parser.parse_args()
    options.output.write_text(constraints(newest_versions()), encoding="utf-8")


if __name__ == "__main__":
    main()
