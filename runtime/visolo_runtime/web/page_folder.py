"""Writing the folder of a static page that runs a model in the visitor's browser.

The page, its styles and its code are files of this package. WebAssembly's onnxruntime comes from
npm: ``package.json`` beside this file names the version that the page is tested with. The folder
that is written needs no server of its own: whatever serves files will do.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from visolo_core.contract import GRAPHS
from visolo_core.errors import VisoloError
from visolo_core.files import read_json, replaced_folder
from visolo_runtime.bundle import Bundle
from visolo_runtime.models.shipped import SHIPPED, model_path

SCENE_MODEL = "shapes"
"""The model in the package that knows what the page's scene draws."""
RUNTIME = "onnxruntime-web"
DEFAULT_RUNTIME = Path("node_modules") / RUNTIME
"""Where ``npm install onnxruntime-web`` puts it."""
_FOLDER = Path(__file__).parent
_BUILDS = {
    "wasm": ("ort.wasm", "ort-wasm-simd-threaded.wasm"),
    "webgpu": ("ort.jspi", "ort-wasm-simd-threaded.jspi.wasm"),
}
"""Of each backend the name of its build of onnxruntime, and its WebAssembly file."""
_CODE, _PACKED = ".bundle.min.mjs", ".packed"
_LISTED = "files.js"
_SMALL = 100_000  # bytes of a file that is kept at the first visit, used or not


@dataclass(frozen=True)
class PageFolder:
    """A page that was written."""

    folder: Path
    models: tuple[str, ...]
    """Names of its models, the one for cameras and files first."""
    first_load_bytes: int
    """What a visitor downloads until a model runs, for the largest model and backend."""


def runtime_version() -> str:
    """The version of onnxruntime-web that the page is tested with."""
    package = json.loads((_FOLDER / "package.json").read_text(encoding="utf-8"))
    return str(package["dependencies"][RUNTIME])


def write_page(folder: Path, model: str, runtime: Path = DEFAULT_RUNTIME) -> PageFolder:
    """Write the page; a page that is there is replaced as a whole.

    Args:
        folder: written beside its place and renamed when it is complete.
        model: for cameras and video files: a name of a model in the package, an address on the hub,
            or a bundle. The model of the drawn scene comes along.
        runtime: the folder of the npm package onnxruntime-web.

    Raises:
        VisoloError: if the folder holds something else than such a page, onnxruntime-web is not
            there or of another version, or the bundle has no graphs that a browser can run.
    """
    _check_replaceable(folder)
    _check_runtime(runtime)
    name = model if model in SHIPPED else model_path(model).resolve().stem
    bundles = {name: _bundle(model)}
    if model != SCENE_MODEL:
        if name == SCENE_MODEL:
            raise VisoloError(
                f"'{model}' has the name of the scene's model, {SCENE_MODEL}: give the bundle "
                "another name"
            )
        bundles[SCENE_MODEL] = _bundle(SCENE_MODEL)
    with replaced_folder(folder) as temporary:
        shutil.copytree(_FOLDER / "page", temporary, dirs_exist_ok=True)
        _write_runtime(runtime, temporary / "runtime")
        for each, bundle in bundles.items():
            _write_model(bundle, temporary / "models" / each)
        _write_settings(temporary, tuple(bundles))
        _list_files(temporary)
        first_load = _first_load(temporary)
    return PageFolder(folder, tuple(bundles), first_load)


def _check_replaceable(folder: Path) -> None:
    """Refuse a folder that is not empty and not a page, whose content would be lost."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / _LISTED).is_file():
        raise VisoloError(
            f"'{folder}' holds files that are not such a page's: name a new or an empty folder"
        )


def _check_runtime(runtime: Path) -> None:
    wanted = runtime_version()
    how = f"run npm install {RUNTIME}@{wanted} here, or name its folder with --runtime"
    files = [runtime / "package.json"]
    for build, binary in _BUILDS.values():
        files += [runtime / "dist" / (build + _CODE), runtime / "dist" / binary]
    if not all(each.is_file() for each in files):
        raise VisoloError(f"there is no {RUNTIME} in '{runtime}': {how}")
    package = read_json(files[0])
    version = package.get("version") if isinstance(package, dict) else None
    if version != wanted:
        raise VisoloError(
            f"'{runtime}' is {RUNTIME} {version}, but the page is tested with {wanted}: {how}"
        )


def _bundle(model: str) -> Bundle:
    bundle = Bundle(model_path(model))
    graphs = bundle.graphs("onnx", "fp32")
    if graphs.extra:
        raise VisoloError(
            f"'{bundle.folder}' keeps its weights in files of their own, which a browser does not "
            "load: a page needs a smaller model"
        )
    return bundle


def _write_runtime(runtime: Path, folder: Path) -> None:
    folder.mkdir()
    for build, binary in _BUILDS.values():
        shutil.copyfile(runtime / "dist" / (build + _CODE), folder / (build + _CODE))
        (folder / (build + _PACKED)).write_bytes(_packed(runtime / "dist" / binary))


def _packed(file: Path) -> bytes:
    """The file for static servers, few of which compress: 14 MB of onnxruntime become 4, a model
    whose weights were kept in half precision loses a quarter. Without the time, so that the same
    file is written every time."""
    return gzip.compress(file.read_bytes(), 9, mtime=0)


def _write_model(bundle: Bundle, folder: Path) -> None:
    """The graphs, and the part of the manifest that the page reads."""
    folder.mkdir(parents=True)
    files = bundle.graph_files("onnx", "fp32")
    for graph in GRAPHS:
        (folder / f"{graph}{_PACKED}").write_bytes(_packed(files[graph]))
    document = bundle.manifest.model_dump(
        mode="json", include={"model", "inference", "labels", "slots", "contract"}
    )
    document["graphs"] = {graph: f"{graph}{_PACKED}" for graph in GRAPHS}
    _write_json(folder / "manifest.json", document)


def _write_settings(folder: Path, models: tuple[str, ...]) -> None:
    document = {
        "scene_model": SCENE_MODEL,
        "video_model": models[0],
        "model_bytes": {each: _size(folder / "models" / each) for each in models},
        "runtime_bytes": {
            backend: (folder / "runtime" / (build + _PACKED)).stat().st_size
            for backend, (build, _) in _BUILDS.items()
        },
    }
    _write_json(folder / "settings.json", document)


def _first_load(folder: Path) -> int:
    """The page's code, one build of onnxruntime and one model: the largest."""
    models = [_size(each) for each in (folder / "models").iterdir()]
    builds = [
        sum(each.stat().st_size for each in (folder / "runtime").glob(f"{build}.*"))
        for build, _ in _BUILDS.values()
    ]
    return _size(folder) - sum(models) - sum(builds) + max(models) + max(builds)


def _list_files(folder: Path) -> None:
    """What belongs to this state of the page, for its service worker: small files are kept at the
    first visit, large ones when they are used."""
    digest = hashlib.sha256()
    small: list[str] = []
    large: list[str] = []
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        name = path.relative_to(folder).as_posix()
        digest.update(name.encode() + b"\0" + path.read_bytes())
        is_large = name.startswith("models/") or path.stat().st_size > _SMALL
        (large if is_large else small).append(name)
    listed = {"version": digest.hexdigest()[:16], "small": small, "large": large}
    text = f"self.FILES = {json.dumps(listed, indent=1)};\n"
    (folder / _LISTED).write_text(text, encoding="utf-8")


def _write_json(path: Path, document: object) -> None:
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _size(folder: Path) -> int:
    return sum(each.stat().st_size for each in folder.rglob("*") if each.is_file())
