"""Two distributions of one tree: their dependencies, and that both can be published."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.metadata import Metadata
from packaging.requirements import Requirement

import check_release
import packaging_hook as hook
from build_distributions import build_all
from check_distributions import faults, metadata_of
from visolo_core import __version__
from visolo_core.distribution import CPU, GPU, RUNTIMES
from write_constraints import constraints, depends_on_the_machine, plain_name

ROOT = Path(__file__).parents[1]
NAMES = (CPU, GPU)


def names(requirements: list[str]) -> set[str]:
    return {Requirement(each).name for each in requirements}


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel and a source archive of each distribution."""
    folder = tmp_path_factory.mktemp("packages")
    build_all(folder)
    return folder


@pytest.fixture(scope="module")
def wheels(packages: Path) -> dict[str, Path]:
    """The wheel of each distribution."""
    return {str(metadata_of(wheel).name): wheel for wheel in packages.glob("*.whl")}


def content(wheel: Path) -> dict[str, int]:
    """Files of a wheel without its metadata, with their checksums."""
    with zipfile.ZipFile(wheel) as opened:
        return {
            each.filename: each.CRC
            for each in opened.infolist()
            if ".dist-info/" not in each.filename
        }


def test_the_base_install_has_no_pytorch() -> None:
    base, extras = hook.dependencies(CPU)
    assert names(base) == {
        "numpy", "pillow", "av", "pycocotools", "pydantic", "typer", "rich", "threadpoolctl",
        "onnxruntime",
    }  # fmt: skip
    assert set(extras) == {
        "export", "train", "gpu", "cuda12", "cuda13", "jetson", "openvino", "rtx", "identity",
        "hub", "serve", "bulk", "docs", "dev",
    }  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_no_combination_of_extras_installs_both_runtimes(name: str) -> None:
    base, extras = hook.dependencies(name)
    everything = names(base).union(*(names(group) for group in extras.values()))
    assert everything & set(RUNTIMES.values()) == {RUNTIMES[name]}


def test_the_gpu_extra_of_visolo_cannot_be_resolved_and_says_why() -> None:
    base, extras = hook.dependencies(CPU)
    required = next(Requirement(each) for each in base if each.startswith("onnxruntime"))
    refused = Requirement(extras["gpu"][0])
    assert refused.name == required.name
    (pin,) = refused.specifier
    assert pin.version not in required.specifier
    assert pin.version.endswith("+install.visolo-gpu")


def test_both_are_built_and_could_be_published(packages: Path, wheels: dict[str, Path]) -> None:
    assert set(wheels) == set(NAMES)
    assert len(list(packages.glob("*.tar.gz"))) == 2
    for package in packages.iterdir():
        assert faults(package) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_wheel_carries_the_dependencies_of_its_name(wheels: dict[str, Path], name: str) -> None:
    metadata: Metadata = metadata_of(wheels[name])
    base, extras = hook.dependencies(name)
    required = metadata.requires_dist or []
    assert {each.name for each in required if each.marker is None} == names(base)
    gpu = {each.name for each in required if each.marker and each.marker.evaluate({"extra": "gpu"})}
    assert gpu - names(base) == names(extras["gpu"]) - names(base)
    assert str(metadata.version) == __version__


def test_both_wheels_hold_the_same_files_under_names_of_their_own(wheels: dict[str, Path]) -> None:
    cpu, gpu = (content(wheels[name]) for name in NAMES)
    assert cpu == gpu
    assert {path.split("/")[0] for path in cpu} == {
        "visolo", "visolo_core", "visolo_runtime", "visolo_export", "visolo_train",
    }  # fmt: skip


def test_a_wheel_holds_every_file_of_the_packages(wheels: dict[str, Path]) -> None:
    rooms = [ROOT / "visolo", ROOT / "visolo_core"]
    rooms += [ROOT / room / f"visolo_{room}" for room in ("runtime", "export", "train")]
    files = {
        path.relative_to(room.parent).as_posix()
        for room in rooms
        for path in room.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert set(content(wheels[CPU])) == files


@pytest.mark.parametrize(
    ("replaced", "by", "fault"),
    [
        (f"Version: {__version__}", f"Version: {__version__}+gpu", "has a local part"),
        ("Requires-Dist: onnxruntime-gpu", "Requires-Dist: onnxruntime", "depends on onnxruntime"),
        ("text/markdown", "text/plain", "not the README"),
    ],
)
def test_faults_of_a_package_are_reported(
    wheels: dict[str, Path], tmp_path: Path, replaced: str, by: str, fault: str
) -> None:
    damaged = tmp_path / "damaged.whl"
    with zipfile.ZipFile(wheels[GPU]) as wheel:
        (name,) = [each for each in wheel.namelist() if each.endswith("METADATA")]
        text = wheel.read(name).decode()
    assert replaced in text
    with zipfile.ZipFile(damaged, "w") as wheel:
        wheel.writestr(name, text.replace(replaced, by))
    (sentence,) = faults(damaged)
    assert fault in sentence


def test_the_readme_of_a_package_has_only_absolute_links(wheels: dict[str, Path]) -> None:
    text = metadata_of(wheels[CPU]).description or ""
    targets = re.findall(r"\]\(([^)]+)\)", text)
    assert targets
    assert [each for each in targets if not each.startswith(("https:", "#"))] == []


def test_pictures_link_to_raw_files_and_pages_to_views() -> None:
    text = "![a](docs/a.jpg) [b](docs/b.md) [c](https://c.org) [d](#d)"
    assert hook.readme(text, "https://h.org/v") == (
        "![a](https://h.org/v/raw/main/docs/a.jpg) [b](https://h.org/v/blob/main/docs/b.md) "
        "[c](https://c.org) [d](#d)"
    )


def pins() -> dict[str, str]:
    """Version of each distribution in the constraints file."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def direct() -> list[Requirement]:
    """The dependencies that ``make test`` installs by name."""
    base, extras = hook.dependencies(CPU)
    named = [*base, *extras["export"], *extras["train"], *extras["dev"]]
    return [Requirement(each) for each in named]


def test_every_direct_dependency_is_pinned_within_its_range() -> None:
    pinned = pins()
    for each in direct():
        if depends_on_the_machine(each.name):
            continue
        assert plain_name(each.name) in pinned, f"{each.name}: run make constraints"
        assert pinned[plain_name(each.name)] in each.specifier, f"{each}: run make constraints"


def test_nothing_that_depends_on_the_machine_is_pinned() -> None:
    assert [name for name in pins() if depends_on_the_machine(name)] == []
    left_out = {each.name for each in direct() if depends_on_the_machine(each.name)}
    assert left_out == {"torch", "torchvision"}


def test_the_constraints_file_is_as_its_tool_writes_it() -> None:
    text = (ROOT / "constraints.txt").read_text()
    assert constraints(pins() | {"torch": "2.9", "nvidia-cublas": "13"}) == text


def test_citation_and_changelog_name_this_version() -> None:
    assert check_release.version(ROOT) == __version__
    assert check_release.citation_faults((ROOT / "CITATION.cff").read_text(), __version__) == []
    first = re.search(r"^## (\S+), (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert first is not None
    assert first[1] == __version__


@pytest.mark.parametrize(
    ("changelog", "refusals"),
    [
        ("## 1.2.0, 2026-05-01\n- New.", 0),
        ("## 1.2.0, not yet released\n- New.", 1),
        ("## 1.2.0, 2026-13-01\n- New.", 1),
        ("## 1.1.0, 2026-05-01\n- Old.", 1),
    ],
)
def test_a_release_needs_a_dated_section_of_its_version(changelog: str, refusals: int) -> None:
    assert len(check_release.changelog_faults(changelog, "1.2.0")) == refusals


def test_a_release_needs_a_tree_without_changes(tmp_path: Path) -> None:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    assert check_release.tree_faults(tmp_path) == []
    (tmp_path / "new.txt").write_text("")
    (fault,) = check_release.tree_faults(tmp_path)
    assert "new.txt" in fault


def test_module_entry_point() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "visolo", "--version"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.startswith("visolo ")
