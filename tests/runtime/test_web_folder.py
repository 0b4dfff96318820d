"""The folder that ``visolo web`` writes, and what of a page can be checked without a browser."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers import Outcome
from visolo_core.contract import GRAPHS
from visolo_core.errors import VisoloError
from visolo_runtime.models.shipped import shipped_model
from visolo_runtime.web.page_folder import RUNTIME, runtime_version, write_page

Visolo = Callable[..., Outcome]
ROOM = Path(__file__).parents[2] / "runtime/visolo_runtime/web"
PAGE = ROOM / "page"
BINARY = b"\0asm" * 1000


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    """A folder that looks like the npm package."""
    folder = tmp_path / RUNTIME
    (folder / "dist").mkdir(parents=True)
    (folder / "package.json").write_text(json.dumps({"version": runtime_version()}))
    for build, binary in (("wasm", "threaded"), ("jspi", "threaded.jspi")):
        (folder / f"dist/ort.{build}.bundle.min.mjs").write_text("export {};")
        (folder / f"dist/ort-wasm-simd-{binary}.wasm").write_bytes(BINARY)
    return folder


def files(folder: Path) -> set[str]:
    return {each.relative_to(folder).as_posix() for each in folder.rglob("*") if each.is_file()}


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_a_page_has_its_code_the_runtime_and_two_models(tmp_path: Path, runtime: Path) -> None:
    page = write_page(tmp_path / "page", "everyday", runtime)
    written = files(page.folder)
    graphs = {f"{graph}.packed" for graph in GRAPHS}
    assert written == files(PAGE) | {"files.js", "settings.json"} | {
        f"runtime/ort.{build}.{kind}"
        for build in ("wasm", "jspi") for kind in ("bundle.min.mjs", "packed")
    } | {
        f"models/{model}/{name}"
        for model in ("everyday", "shapes") for name in {*graphs, "manifest.json"}
    }  # fmt: skip
    assert page.models == ("everyday", "shapes")
    assert gzip.decompress((page.folder / "runtime/ort.wasm.packed").read_bytes()) == BINARY
    for model in page.models:
        folder, bundle = page.folder / "models" / model, shipped_model(model)
        for graph in GRAPHS:
            content = gzip.decompress((folder / f"{graph}.packed").read_bytes())
            assert content == (bundle / f"{graph}.onnx").read_bytes()
        whole, part = read(bundle / "manifest.json"), read(folder / "manifest.json")
        assert part.pop("graphs") == {graph: f"{graph}.packed" for graph in GRAPHS}
        assert part == {name: whole[name] for name in part}


def test_the_same_page_is_written_every_time(tmp_path: Path, runtime: Path) -> None:
    first, second = (write_page(tmp_path / name, "shapes", runtime) for name in ("a", "b"))
    assert files(first.folder) == files(second.folder)
    for name in files(first.folder):
        assert (first.folder / name).read_bytes() == (second.folder / name).read_bytes(), name
    assert first.models == ("shapes",)


def test_every_change_of_a_file_is_a_new_state_of_the_page(tmp_path: Path, runtime: Path) -> None:
    before = (write_page(tmp_path / "page", "shapes", runtime).folder / "files.js").read_text()
    (runtime / "dist/ort-wasm-simd-threaded.wasm").write_bytes(BINARY[4:])
    after = (write_page(tmp_path / "page", "shapes", runtime).folder / "files.js").read_text()
    assert before != after


def test_a_bundle_of_ones_own(tmp_path: Path, runtime: Path, lite_bundle: Path) -> None:
    page = write_page(tmp_path / "page", str(lite_bundle), runtime)
    assert page.models == ("lite", "shapes")
    assert read(page.folder / "settings.json")["video_model"] == "lite"


def test_the_command(tmp_path: Path, runtime: Path, visolo: Visolo) -> None:
    page = tmp_path / "page"
    done = visolo("web", page, "--model", "shapes", "--runtime", runtime).succeeded()
    assert "A first visit loads" in done.out
    report = visolo("web", page, "--runtime", runtime, "--json").succeeded().json()
    assert report["models"] == ["everyday", "shapes"]
    largest = max(
        sum(each.stat().st_size for each in (page / "models" / model).iterdir())
        for model in report["models"]
    )
    assert report["first_load_bytes"] > largest


def test_a_runtime_that_is_missing_or_another(
    tmp_path: Path, runtime: Path, visolo: Visolo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    install = f"npm install {RUNTIME}@{runtime_version()}"
    visolo("web", "page").refused("node_modules", install, "--runtime")
    (runtime / "package.json").write_text('{"version": "0.1.0"}')
    visolo("web", "page", "--runtime", runtime).refused("0.1.0", install)
    (runtime / "package.json").write_text("[]")
    visolo("web", "page", "--runtime", runtime).refused(install)
    assert not (tmp_path / "page").exists()


def test_nothing_but_a_page_is_replaced(tmp_path: Path, runtime: Path) -> None:
    precious = tmp_path / "thesis"
    precious.mkdir()
    (precious / "chapter.txt").write_text("years")
    with pytest.raises(VisoloError, match="holds files that are not such a page's"):
        write_page(precious, "shapes", runtime)
    with pytest.raises(VisoloError, match="is not a folder"):
        write_page(precious / "chapter.txt", "shapes", runtime)
    assert (precious / "chapter.txt").read_text() == "years"


def test_a_damaged_bundle_leaves_the_old_page(tmp_path: Path, runtime: Path) -> None:
    page = write_page(tmp_path / "page", "shapes", runtime)
    before = (page.folder / "files.js").read_text()
    damaged = tmp_path / "damaged.visolo"
    shutil.copytree(shipped_model(), damaged)
    with (damaged / "mask.onnx").open("ab") as file:
        file.write(b"more")
    with pytest.raises(VisoloError, match=r"mask\.onnx"):
        write_page(page.folder, str(damaged), runtime)
    assert (page.folder / "files.js").read_text() == before
    beside = {each.name for each in tmp_path.iterdir()}
    assert beside == {RUNTIME, "page", "damaged.visolo"}


@pytest.mark.parametrize("name", ["shapes", "everyday"])
def test_a_bundle_that_a_browser_cannot_take(tmp_path: Path, runtime: Path, name: str) -> None:
    bundle = tmp_path / f"{name}.visolo"
    shutil.copytree(shipped_model(name), bundle)
    if name == "shapes":
        with pytest.raises(VisoloError, match="has the name of the scene's model"):
            write_page(tmp_path / "page", str(bundle), runtime)
        return
    manifest = read(bundle / "manifest.json")
    manifest["graphs"][0]["extra"] = ["resize.onnx"]  # as if it were weights of a graph
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(VisoloError, match="weights in files of their own"):
        write_page(tmp_path / "page", str(bundle), runtime)


def test_the_lock_file_pins_the_version_that_is_asked_for() -> None:
    locked = read(ROOM / "package-lock.json")["packages"]
    assert locked[f"node_modules/{RUNTIME}"]["version"] == runtime_version()
    assert all(each["integrity"] for name, each in locked.items() if name)


# ---------------------------------------------------------------------------- the page's files


def test_the_page_has_no_code_of_its_own_and_names_no_other_server() -> None:
    html = (PAGE / "index.html").read_text()
    assert re.findall(r"<script(?![^>]*\bsrc=)", html) == []
    assert re.findall(r"<style|\sstyle=|\son[a-z]+=", html) == []
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; ")
    assert "unsafe-inline" not in policy[1]
    assert "unsafe-eval" not in policy[1].replace("wasm-unsafe-eval", "")
    worker = (PAGE / "service-worker.js").read_text()
    assert policy[1] in re.sub(r'" \+\s+"', "", worker)
    for name in files(PAGE):
        text = (PAGE / name).read_text().replace("http://www.w3.org/2000/svg", "")
        assert "://" not in text, name


def test_everything_that_the_code_looks_for_is_on_the_page() -> None:
    html = (PAGE / "index.html").read_text()
    present = re.findall(r'\bid="([^"]+)"', html)
    assert len(present) == len(set(present))
    wanted = {
        name for path in (PAGE / "view").glob("*.js")
        for name in re.findall(r'find\("([^"]+)"\)', path.read_text())
    }  # fmt: skip
    assert len(wanted) > 10
    assert wanted <= set(present)
    targets = re.findall(r'(?:for|aria-describedby)="([^"]+)"', html)
    assert set(targets) <= set(present)


def test_every_import_leads_to_a_file() -> None:
    for path in PAGE.rglob("*.js"):
        for target in re.findall(r'from "([^"]+)"', path.read_text()):
            there = (path.parent / target).resolve()
            assert there.is_file() or "ort.wasm" in target, f"{path.name}: {target}"
