"""The container files. ``make container`` runs the steps of the CPU's."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from check_container import faults
from skips import NO_COMPILER

ROOT = Path(__file__).parents[1]
CPU, GPU = ROOT / "docker/cpu/Dockerfile", ROOT / "docker/gpu/Dockerfile"
CONSTRAINTS = "# text\nnumpy==2.4.6\n"


def instructions(file: Path) -> list[tuple[str, str]]:
    """Of a container file, each with its arguments in one line."""
    text = re.sub(r"^#.*\n", "", file.read_text(), flags=re.M).replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip()]
    return [(word, " ".join(rest.split())) for word, _, rest in (x.partition(" ") for x in lines)]


@pytest.mark.parametrize("file", [CPU, GPU], ids=["cpu", "gpu"])
def test_a_container_runs_visolo_as_an_ordinary_user(file: Path) -> None:
    steps = instructions(file)
    last = len(steps) - 1 - [word for word, _ in reversed(steps)].index("FROM")
    final = dict(steps[last:])
    assert final["USER"] == "visolo"
    assert final["ENTRYPOINT"] == '["/opt/visolo/bin/visolo"]'
    assert ("COPY", "--from=build /opt/visolo /opt/visolo") in steps[last:]
    assert steps[0][0] in ("FROM", "ARG")


@pytest.mark.parametrize("file", [CPU, GPU], ids=["cpu", "gpu"])
def test_a_container_installs_by_its_script(file: Path) -> None:
    """What CI runs is what the container file runs."""
    script = file.with_name("install")
    (line,) = [rest for word, rest in instructions(file) if word == "RUN" and "/source/" in rest]
    assert line.startswith(f"/source/{script.relative_to(ROOT)} /opt/visolo")
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", script], check=True)
    assert "constraints.txt" in script.read_text()
    assert "torch" not in re.sub(r"#.*", "", script.read_text())


def test_both_stages_start_from_one_python() -> None:
    """The environment's interpreter is a link to that of the image."""
    first, second = (rest for word, rest in instructions(CPU) if word == "FROM")
    assert first == f"{second} AS build"


def test_the_cuda_of_an_image_is_that_of_its_extra() -> None:
    text = GPU.read_text()
    assert re.search(r"^ARG CUDA=13\.", text, re.M)
    assert re.search(r"^ARG EXTRA=cuda13$", text, re.M)
    assert re.search(r"--build-arg CUDA=12\.\S+ --build-arg EXTRA=cuda12 ", text)


def test_the_engine_is_sent_all_that_the_packages_are_built_from() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    sent = {line.removeprefix("!/") for line in lines if line.startswith("!")}
    assert [name for name in sent if not (ROOT / name).exists()] == []
    project = (ROOT / "pyproject.toml").read_text()
    for path in re.findall(r"^(?:packages|include) = \[(.*?)\]", project, re.M | re.S):
        rooms = {each.strip('"/').split("/")[0] for each in re.findall(r'"[^"]+"', path)}
        unused = {"benchmarks", "tests", "docs", "examples", "mkdocs.yml", ".ci", "Makefile",
                  "CONTRIBUTING.md", ".dockerignore"}  # fmt: skip
        assert rooms - unused <= sent


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    site = tmp_path / "lib/python3.11/site-packages"
    info = site / "numpy-2.4.6.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 2.4.6\n")
    return tmp_path


def test_what_is_pinned_fits(environment: Path) -> None:
    assert faults(environment, CONSTRAINTS) == []


@pytest.mark.parametrize("pins", ["# none", "numpy==2.4.5"])
def test_another_version_than_the_pinned_one_is_a_fault(environment: Path, pins: str) -> None:
    (fault,) = faults(environment, pins)
    assert fault.startswith("numpy 2.4.6 is")


def test_a_library_that_the_image_lacks_is_a_fault(environment: Path) -> None:
    if shutil.which("gcc") is None:
        pytest.skip(NO_COMPILER)
    site = environment / "lib/python3.11/site-packages"
    build = ["gcc", "-shared", "-xc", os.devnull, "-Wl,--no-as-needed"]
    subprocess.run(
        [*build, "-Wl,-soname,libX11.so.6", "-o", environment / "libX11.so.6"], check=True
    )
    subprocess.run([*build, "-o", site / "a.so", "-xnone", environment / "libX11.so.6"], check=True)
    (fault,) = faults(environment, CONSTRAINTS)
    assert fault == "a.so links libX11.so.6, which the image lacks"
    (environment / "libX11.so.6").rename(site / "libX11.so.6")
    assert faults(environment, CONSTRAINTS) == []
