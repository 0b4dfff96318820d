"""Check that pip resolves the GPU extras of ``visolo-gpu`` to versions that fit each other.

    python tools/check_gpu_extras.py [dist]

Nothing is installed, and of gigabytes of wheels only the metadata is downloaded. TensorRT's
libraries are source archives on PyPI, whose build downloads the rest from NVIDIA's own index; what
they require is in the archive. A stand-in for their build backend, ``wheel-stub``, gives pip that.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
SETS = {
    "cuda12": 12,
    "cuda13": 13,
    # What `make gpu-check` installs: PyTorch brings CUDA packages of its own.
    "gpu,rtx,export,train,dev": 13,
}
"""Extras that are installed together, and the CUDA that all of their packages must be for."""
CUDNN = 9
"""of ONNX Runtime's CUDA and TensorRT providers: they open libcudnn.so.9"""
TENSORRT = 10
"""of ONNX Runtime's TensorRT provider: it links libnvinfer.so.10"""
PIP = "pip>=25.1"
"""Earlier ones download every wheel before they report."""
_OF_A_CUDA = re.compile(r"(?:nvidia|tensorrt)-(?:.*-)?cu(\d+)(?:-libs|-bindings)?")
_BACKEND = """\
from pathlib import Path
from shutil import copy


def get_requires_for_build_wheel(config_settings=None):
    return []


def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    lines = Path("PKG-INFO").read_text(encoding="utf-8").splitlines()
    fields = dict(line.split(": ", 1) for line in lines if line.startswith(("Name: ", "Version: ")))
    folder = Path(metadata_directory, f"{fields['Name']}-{fields['Version']}.dist-info")
    folder.mkdir()
    copy("PKG-INFO", folder / "METADATA")
    return folder.name
"""


@dataclass(frozen=True)
class Package:
    """A package that pip would install."""

    name: str
    version: Version
    requires: tuple[Requirement, ...] = ()


def write_stand_in(folder: Path) -> None:
    """A wheel of ``wheel-stub`` that pip prefers to every real one."""
    info = "wheel_stub-9999.dist-info"
    files = {
        "wheel_stub/__init__.py": "",
        "wheel_stub/buildapi.py": _BACKEND,
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: wheel-stub\nVersion: 9999\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / "wheel_stub-9999-py3-none-any.whl", "w") as wheel:
        for name, text in (files | {f"{info}/RECORD": record}).items():
            wheel.writestr(name, text)


def resolve(wheel: Path, extras: str, tools: Path) -> list[Package]:
    """What pip would install into an empty environment.

    Args:
        wheel: of ``visolo-gpu``.
        extras: separated by commas.
        tools: a folder with pip and the stand-in.

    Raises:
        SystemExit: with pip's words, if there is no such set of versions.
    """
    command = [
        sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--quiet",
        "--dry-run", "--ignore-installed", "--use-feature", "fast-deps", "--find-links", str(tools),
        "--report", "-", f"{wheel.absolute()}[{extras}]",
    ]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(tools)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"visolo-gpu[{extras}] cannot be resolved:\n{done.stderr}")
    return read_report(done.stdout)


def resolve_all(wheel: Path) -> dict[str, list[Package]]:
    """What pip would install for each of ``SETS``."""
    with tempfile.TemporaryDirectory(prefix="visolo-resolve-") as folder:
        tools = Path(folder)
        write_stand_in(tools)
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--target", folder, PIP]
        subprocess.run(install, check=True)
        with ThreadPoolExecutor() as pool:
            resolved = pool.map(lambda extras: resolve(wheel, extras, tools), SETS)
            return dict(zip(SETS, resolved, strict=True))


def read_report(text: str) -> list[Package]:
    """The packages of a report that pip has written."""
    found = (each["metadata"] for each in json.loads(text)["install"])
    return [
        Package(
            canonicalize_name(each["name"]),
            Version(each["version"]),
            tuple(map(Requirement, each.get("requires_dist", ()))),
        )
        for each in found
    ]


def faults(packages: Iterable[Package], cuda: int) -> list[str]:
    """Packages that are missing or do not fit the rest; a sentence each.

    Args:
        packages: all that would be installed together.
        cuda: major version that they must be for.
    """
    by_name = {each.name: each for each in packages}
    versions = {name: each.version for name, each in by_name.items()}
    wrong = [
        f"{name} {versions[name]} is not for CUDA {cuda}"
        for name in versions
        if (suffix := _OF_A_CUDA.fullmatch(name)) and int(suffix[1]) != cuda
    ]
    runtime = by_name.get("onnxruntime-gpu")
    if runtime is None or "onnxruntime" in by_name:
        wrong.append("onnxruntime-gpu must be installed, and onnxruntime must not")
    elif cuda_of_runtime(runtime) != cuda:
        wrong.append(f"onnxruntime-gpu {runtime.version} is not for CUDA {cuda}")
    toolkit = "nvidia-cuda-runtime" + ("-cu12" if cuda == 12 else "")
    tensorrt = f"tensorrt-cu{cuda}"
    for name, major in (
        (toolkit, cuda),
        (f"nvidia-cudnn-cu{cuda}", CUDNN),
        (f"{tensorrt}-libs", TENSORRT),
        (f"{tensorrt}-bindings", TENSORRT),
    ):
        if name not in versions or versions[name].major != major:
            wrong.append(f"{name} must be installed in version {major}")
    if versions.get(f"{tensorrt}-bindings") != versions.get(f"{tensorrt}-libs"):
        wrong.append("TensorRT's bindings and libraries differ in version")
    if "pycuda" not in versions:
        wrong.append("pycuda must be installed")
    return wrong


def cuda_of_runtime(runtime: Package) -> int:
    """The major version of CUDA that a release of ``onnxruntime-gpu`` asks for; 0 if none.

    Args:
        runtime: it has an extra ``cuda``.
    """
    for each in runtime.requires:
        if suffix := re.fullmatch(r"nvidia-cuda-runtime(?:-cu(\d+))?", each.name):
            return int(suffix[1] or Version(next(iter(each.specifier)).version).major)
    return 0


def main() -> None:
    """Exit status 1, and a sentence for each fault, if an extra does not fit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT / "dist")
    wheels = list(parser.parse_args().folder.glob("visolo_gpu-*.whl"))
    if len(wheels) != 1:
        raise SystemExit(f"expected one wheel of visolo-gpu, not {len(wheels)}: run make wheels")
    wrong = []
    for extras, packages in resolve_all(wheels[0]).items():
        cuda = SETS[extras]
        wrong += [f"[{extras}]: {each}" for each in faults(packages, cuda)]
        named = [each for each in packages if re.match("onnxruntime|tensorrt|pycuda", each.name)]
        versions = ", ".join(f"{each.name} {each.version}" for each in named)
        print(f"visolo-gpu[{extras}], CUDA {cuda}: {versions}")
    if wrong:
        raise SystemExit("\n".join(wrong))


if __name__ == "__main__":
    main()
