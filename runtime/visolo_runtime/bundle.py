"""The bundle: one directory with everything needed to run a model, described by a manifest."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from visolo_core.categories import LabelSet
from visolo_core.config import InferenceConfig, ModelConfig
from visolo_core.contract import GRAPHS, GraphName, GraphSpec, contract
from visolo_core.errors import VisoloError
from visolo_core.files import inside, read_text, reason, replaced
from visolo_core.json_text import parse
from visolo_core.pixels import PixelGraph

Format = Literal[
    "onnx", "openvino", "torchscript", "pt2", "aotinductor", "tensorrt-rtx", "tensorrt"
]
Precision = Literal["fp32", "fp16", "bf16", "int8", "fp8"]

FORMAT_VERSION = 2
MANIFEST = "manifest.json"
_BLOCK = 1 << 20  # bytes of a file that are read at a time


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FileEntry(_Strict):
    """A file of the bundle."""

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    size: int = Field(ge=0)
    """bytes"""


class GraphFiles(_Strict):
    """The graphs in one format and precision."""

    format: Format
    precision: Precision
    opset: int | None = None
    """of ONNX files"""
    files: dict[GraphName, str]
    """Paths inside the bundle, with forward slashes."""
    pixels: dict[PixelGraph, str] = {}
    """Graphs that resize frames, always in float32; only engines on a device use them."""
    extra: list[str] = []
    """Other files of these graphs, such as weights stored separately."""
    library: str | None = None
    """for TensorRT engines and AOTInductor: the version that built them; only that one runs them"""
    targets: list[str] = []
    """GPUs that TensorRT's engines, or processors that AOTInductor's code, were built for"""

    @property
    def all_files(self) -> tuple[str, ...]:
        """Paths inside the bundle of everything that belongs to these graphs."""
        return *self.files.values(), *self.pixels.values(), *self.extra


class Calibration(_Strict):
    """How the ranges of int8 and fp8 were calibrated."""

    source: str
    frames: int
    float32_layers: list[str]
    """Convolutions that are not quantised, since that would cost the most accuracy. They compute in
    float32, and in TensorRT's engines in float16."""


class Parity(_Strict):
    """What the last ``visolo verify --record`` measured."""

    reference: str
    """sha256 of the weights used as reference; empty if it was another bundle"""
    form: str = "onnx fp32"
    """format and precision that was compared with it"""
    source: str
    """name of the video"""
    frames: int
    passed: bool
    max_score_difference: float | None
    min_mask_iou: float | None
    max_tensor_error: dict[str, float | None]
    """largest absolute error by graph and tensor; None if an output was NaN"""


class Manifest(_Strict):
    """The contents of a bundle, stored as ``manifest.json``."""

    format_version: int
    model: ModelConfig
    inference: InferenceConfig
    labels: LabelSet
    slots: int = Field(ge=1)
    """memory slots T of the frame graph"""
    batch: int = Field(ge=1)
    """streams that can go through the frame and memory graphs together"""
    contract: dict[GraphName, GraphSpec]
    graphs: list[GraphFiles] = Field(min_length=1)
    files: dict[str, FileEntry]
    producer: dict[str, str]
    """versions of the libraries that exported the bundle"""
    weights_sha256: str | None = None
    """of the checkpoint that was exported"""
    calibration: Calibration | None = None
    """None without int8 and fp8"""
    float32_modules: list[str] = []
    """modules of the network that stay float32 in every precision"""
    parity: Parity | None = None

    def write(self, folder: Path) -> None:
        """Write ``manifest.json`` atomically."""
        with replaced(folder / MANIFEST) as temporary:
            temporary.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")


class Bundle:
    """An opened bundle with a valid manifest.

    Args:
        folder: the bundle's directory.

    Raises:
        VisoloError: if the manifest is missing, has another format version, or is inconsistent.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = _read_manifest(folder)
        for name in (*self.manifest.files, *self._graph_names()):
            if PurePosixPath(name).is_absolute():
                raise VisoloError(
                    f"'{folder / MANIFEST}' names an absolute path, '{name}': export it again"
                )
            inside(folder, name)
        unlisted = [name for name in self._graph_names() if name not in self.manifest.files]
        if unlisted:
            raise VisoloError(
                f"'{folder / MANIFEST}' lists no checksum for {', '.join(unlisted)}: "
                "export the bundle again"
            )

    def graphs(self, format: str, precision: str = "") -> GraphFiles:
        """The graphs in a format and precision; an empty precision means the first in that format.

        Raises:
            VisoloError: if the bundle has no such graphs.
        """
        for graphs in self.manifest.graphs:
            if graphs.format == format and precision in ("", graphs.precision):
                return graphs
        present = ", ".join(f"{each.format} {each.precision}" for each in self.manifest.graphs)
        form = f"{format} {precision}".strip()
        in_onnx = [each.precision for each in self.manifest.graphs if each.format == "onnx"]
        engines = format in ("tensorrt", "tensorrt-rtx") and in_onnx
        can_build = engines and (not precision or precision in {*in_onnx} - {"int8"})
        raise VisoloError(
            f"'{self.folder}' has no {form} graphs, only {present}: "
            + (f"run visolo rebuild {self.folder}" if can_build else "export it with")
            + f" --format {format}"
            + (f" --precision {precision}" if precision else "")
        )

    def graph_files(self, format: str, precision: str = "") -> dict[GraphName, Path]:
        """The files of the graphs in a format and precision; their checksums are verified.

        Raises:
            VisoloError: if the bundle has no such graphs, or a file is missing or changed.
        """
        return self.files_of(self.graphs(format, precision))

    def files_of(self, graphs: GraphFiles) -> dict[GraphName, Path]:
        """The files of these graphs; their checksums are verified.

        Raises:
            VisoloError: if a file is missing or changed.
        """
        for name in (*graphs.files.values(), *graphs.extra):
            self._check_file(name)
        return {graph: inside(self.folder, graphs.files[graph]) for graph in GRAPHS}

    def pixel_files_of(self, graphs: GraphFiles) -> dict[PixelGraph, Path]:
        """The files that resize frames for these graphs, if there are any; their checksums are
        verified.

        Raises:
            VisoloError: if a file is missing or changed.
        """
        for name in graphs.pixels.values():
            self._check_file(name)
        return {graph: inside(self.folder, name) for graph, name in graphs.pixels.items()}

    def check_files(self) -> None:
        """Verify every file of the bundle.

        Raises:
            VisoloError: if a file is missing or changed.
        """
        for name in self.manifest.files:
            self._check_file(name)

    def _graph_names(self) -> list[str]:
        return [name for graphs in self.manifest.graphs for name in graphs.all_files]

    def _check_file(self, name: str) -> None:
        entry, path = self.manifest.files[name], inside(self.folder, name)
        try:
            entry_now = file_entry(path)
        except OSError as error:
            raise VisoloError(
                f"bundle '{self.folder}' lacks '{name}' ({reason(error)}): export or copy it again"
            ) from error
        if entry_now != entry:
            raise VisoloError(
                f"'{name}' in bundle '{self.folder}' is not the file that was exported "
                "(its checksum differs): export or copy it again"
            )


def is_bundle(path: Path) -> bool:
    """Whether a path is a directory with a manifest."""
    return (path / MANIFEST).is_file()


def file_entry(path: Path) -> FileEntry:
    """Checksum and size of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return FileEntry(sha256=digest.hexdigest(), size=path.stat().st_size)


def _read_manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST
    try:
        text = read_text(path)
    except VisoloError as error:
        raise VisoloError(f"'{folder}' is not a bundle, {error}") from error
    try:
        # The version comes first: another format may not have the same fields.
        version = parse(text)["format_version"]
        if version != FORMAT_VERSION:
            older = isinstance(version, int) and version < FORMAT_VERSION
            remedy = f"run visolo export WEIGHTS -o {folder}" if older else "update visolo"
            raise VisoloError(
                f"bundle '{folder}' has format {version}, but this visolo reads {FORMAT_VERSION}: "
                f"{remedy}"
            )
        manifest = _validate(text, path)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise VisoloError(f"'{path}' is not valid at '{where}': {first['msg'].lower()}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise VisoloError(f"'{path}' is not a manifest: {error}") from error
    _check_consistency(manifest, path)
    return manifest


def _validate(text: str, path: Path) -> Manifest:
    try:
        return Manifest.model_validate_json(text)
    except VisoloError as error:  # from an impossible configuration
        raise VisoloError(f"'{path}' is not valid: {error}") from error


def _check_consistency(manifest: Manifest, path: Path) -> None:
    if manifest.contract != contract(manifest.model, manifest.slots, manifest.batch):
        raise VisoloError(
            f"'{path}' has another tensor contract than this visolo: export the bundle again"
        )
    if len(manifest.labels) != manifest.model.classes:
        raise VisoloError(
            f"'{path}' has {len(manifest.labels)} labels for {manifest.model.classes} classes: "
            "export the bundle again"
        )
    if manifest.inference.memory_slots > manifest.slots:
        raise VisoloError(
            f"'{path}' sets {manifest.inference.memory_slots} memory slots, but its graphs have "
            f"{manifest.slots}: export the bundle again"
        )
    for graphs in manifest.graphs:
        missing = [graph for graph in GRAPHS if graph not in graphs.files]
        if missing:
            raise VisoloError(
                f"'{path}' has no {', '.join(missing)} graph in {graphs.format}: "
                "export the bundle again"
            )
