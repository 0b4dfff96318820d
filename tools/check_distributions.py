"""Check the built packages' metadata, and run the CPU wheel in an empty environment.

    python tools/check_distributions.py [dist]

Of ``visolo-gpu`` the metadata is checked and nothing is installed: its dependencies are gigabytes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

from packaging.metadata import Metadata

ROOT = Path(__file__).parents[1]
RUNTIMES = {"visolo": "onnxruntime", "visolo-gpu": "onnxruntime-gpu"}


def metadata_of(package: Path) -> Metadata:
    """The metadata of a wheel or a source archive.

    Raises:
        ExceptionGroup: if a field violates the standard.
    """
    if package.suffix == ".whl":
        with zipfile.ZipFile(package) as wheel:
            (name,) = [each for each in wheel.namelist() if each.endswith(".dist-info/METADATA")]
            return Metadata.from_email(wheel.read(name))
    with tarfile.open(package) as archive:
        (member,) = [each for each in archive if each.name.count("/") == 1
                     and each.name.endswith("/PKG-INFO")]  # fmt: skip
        content = archive.extractfile(member)
        assert content is not None
        return Metadata.from_email(content.read())


def faults(package: Path) -> list[str]:
    """What an index would refuse, and dependencies on the wrong ONNX Runtime; a sentence each."""
    metadata = metadata_of(package)
    required = {each.name for each in metadata.requires_dist or [] if each.marker is None}
    runtimes = required & set(RUNTIMES.values())
    wrong = []
    if metadata.version.local:
        wrong.append(f"version {metadata.version} has a local part, which an index refuses")
    if runtimes != {RUNTIMES.get(metadata.name)}:
        wrong.append(
            f"{metadata.name} depends on {', '.join(sorted(runtimes)) or 'no ONNX Runtime'}"
        )
    if metadata.description_content_type != "text/markdown" or not metadata.description:
        wrong.append("the description is not the README in Markdown")
    return [f"{package.name}: {each}" for each in wrong]


def run_demo(wheel: Path) -> None:
    """Install a wheel into an empty environment and run the demo there, away from the tree."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with tempfile.TemporaryDirectory(prefix="visolo-wheel-") as folder:
        place = Path(folder)
        venv.create(place / "venv", with_pip=True)
        binaries = place / "venv" / "bin"
        install: list[str | Path] = [
            binaries / "python", "-m", "pip", "install", "--disable-pip-version-check",
            "--progress-bar", "off", "--constraint", ROOT / "constraints.txt", wheel.absolute(),
        ]  # fmt: skip
        demo: list[str | Path] = [binaries / "visolo", "demo", "--videos", "2", "--frames", "12"]
        for command in (install, demo):
            subprocess.run(command, cwd=place, env=environment, check=True)


def main() -> None:
    """Exit status 1, and a sentence for each fault, if something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT / "dist")
    folder = parser.parse_args().folder
    packages = sorted([*folder.glob("visolo*.whl"), *folder.glob("visolo*.tar.gz")])
    if len(packages) != 4:
        raise SystemExit(f"'{folder}' has {len(packages)} packages, not 4: run make wheels")
    wrong = [each for package in packages for each in faults(package)]
    if wrong:
        raise SystemExit("\n".join(wrong))
    run_demo(next(each for each in packages if each.name.startswith("visolo-")
                  and each.suffix == ".whl"))  # fmt: skip
    print("\n".join(f"{each}  {each.stat().st_size / 1e6:.1f} MB" for each in packages))


if __name__ == "__main__":
    main()
