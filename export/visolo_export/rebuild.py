"""Builds engines into a bundle, or again, for the TensorRT and the GPU of this machine.

The new engines are built in a folder of their own. Once all are built, the manifest is replaced in
one step by one that names them. A failure before that leaves the bundle as it was, and a program
that reads it in the meantime never sees engines of two builds.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path

from visolo_core.contract import GRAPHS, GraphName
from visolo_core.errors import VisoloError
from visolo_core.files import reason
from visolo_export.formats import QUANTISED, parse_precisions
from visolo_export.pixel_export import build_pixel_engines
from visolo_export.precision import convolutions, to_bf16
from visolo_export.tensorrt_build import TensorRt, check_takes_targets, usual_lengths
from visolo_runtime.bundle import Bundle, GraphFiles, Manifest, Precision, file_entry
from visolo_runtime.engines.tensorrt.library import LIBRARIES, Library


def rebuild_engines(
    folder: Path, format: str, precision: str = "", targets: Sequence[str] = ()
) -> GraphFiles:
    """Build engines from the ONNX graphs in the same bundle: those of the same precision, or, for
    bf16, which ONNX graphs for CPUs do not have, those of float32. They replace the engines of this
    format and precision, if the bundle has any.

    The bundle keeps its other graphs. If engines are replaced, the figures of its last verification
    are removed, since they may describe the old ones.

    Args:
        folder: a bundle with the ONNX graphs for them.
        format: ``tensorrt`` or ``tensorrt-rtx``.
        precision: of the engines; if empty, the first of the bundle's engines in this format, or of
            its ONNX graphs.
        targets: GPUs to build for; if empty, the GPU of this machine.

    Returns:
        the new engines, as the manifest lists them.

    Raises:
        VisoloError: if the format has no engines, or the precision is unknown; if the library
            cannot build for one of the targets; if the ONNX graphs are missing; if the engines are
            int8 or fp8, since a bundle holds no such graphs for TensorRT; if building or writing
            fails.
    """
    if format not in LIBRARIES:
        raise VisoloError(f"format '{format}' has no engines: choose from {', '.join(LIBRARIES)}")
    bundle = Bundle(folder)
    old = _present(bundle, format, precision) or _none_yet(bundle, format, precision)
    check_takes_targets(format, targets)
    if old.precision in QUANTISED:
        raise VisoloError(
            f"{old.precision} engines cannot be built from '{folder}', which has no "
            f"{old.precision} graphs for TensorRT: export from the weights, with --calibrate"
        )
    with tempfile.TemporaryDirectory(prefix="visolo-") as scratch:
        onnx_files = _graphs_for(bundle, old.precision, Path(scratch))
        new = _build(bundle, old, onnx_files, targets)
    _remove(folder, old)
    return new


def _present(bundle: Bundle, format: Library, precision: str) -> GraphFiles | None:
    """The engines to replace."""
    for graphs in bundle.manifest.graphs:
        if graphs.format == format and precision in ("", graphs.precision):
            return graphs
    return None


def _none_yet(bundle: Bundle, format: Library, precision: str) -> GraphFiles:
    """What stands for the engines of a bundle that has none of this format and precision."""
    if precision:
        known = parse_precisions([precision], [format])[0]
    else:
        known = bundle.graphs("onnx").precision
    return GraphFiles(format=format, precision=known, files={})


def _graphs_for(bundle: Bundle, precision: Precision, scratch: Path) -> dict[GraphName, Path]:
    """The ONNX graphs for engines of a precision."""
    if precision != "bf16":
        return bundle.graph_files("onnx", precision)
    files = bundle.graph_files("onnx", "fp32")
    for graph, file in files.items():
        if convolutions(file):
            files[graph] = scratch / f"{graph}.onnx"
            to_bf16(file, files[graph], bundle.manifest.float32_modules)
    return files


def _build(
    bundle: Bundle, old: GraphFiles, onnx_files: dict[GraphName, Path], targets: Sequence[str]
) -> GraphFiles:
    """Build engines in a folder of their own, and write a manifest that names them."""
    format, folder, manifest = old.format, bundle.folder, bundle.manifest
    assert format in LIBRARIES
    pixels = bundle.pixel_files_of(bundle.graphs("onnx"))
    place = _new_folder(folder, f"{format}-{old.precision}" if old.precision != "fp32" else format)
    try:
        library = TensorRt(format)
        library.check([old.precision], targets)
        lengths = usual_lengths(manifest.model.cells, manifest.batch)
        for graph in GRAPHS:
            engine = library.build(onnx_files[graph], manifest.contract[graph], lengths, targets)
            engine.write(place, graph)
        build_pixel_engines(library, pixels, manifest.model.input_size, place, targets)
        new = old.model_copy(
            update={
                "files": {graph: f"{place.name}/{graph}.engine" for graph in GRAPHS},
                "pixels": {graph: f"{place.name}/{graph}.engine" for graph in pixels},
                "extra": [f"{place.name}/{graph}.json" for graph in (*GRAPHS, *pixels)],
                "library": library.version,
                "targets": list(engine.targets),
            }
        )
        _with_engines(bundle, old, new).write(folder)
    except BaseException as error:
        shutil.rmtree(place, ignore_errors=True)
        if isinstance(error, OSError):
            raise VisoloError(f"cannot write '{place}': {reason(error)}") from error
        raise
    return new


def _new_folder(folder: Path, name: str) -> Path:
    """Create a folder in a bundle, called ``name``, or numbered if that exists."""
    names = (name if number == 1 else f"{name}-{number}" for number in count(1))
    place = next(folder / each for each in names if not (folder / each).exists())
    try:
        place.mkdir()
    except OSError as error:
        raise VisoloError(f"cannot write '{place}': {reason(error)}") from error
    return place


def _with_engines(bundle: Bundle, old: GraphFiles, new: GraphFiles) -> Manifest:
    manifest = bundle.manifest
    replaced = set(old.all_files)
    files = {name: entry for name, entry in manifest.files.items() if name not in replaced}
    for name in new.all_files:
        files[name] = file_entry(bundle.folder / name)
    graphs = [new if each == old else each for each in manifest.graphs]
    if replaced:
        return manifest.model_copy(update={"graphs": graphs, "files": files, "parity": None})
    return manifest.model_copy(update={"graphs": [*graphs, new], "files": files})


def _remove(folder: Path, graphs: GraphFiles) -> None:
    """Delete files that the manifest no longer names; one that cannot be deleted does no harm."""
    names = graphs.all_files
    with suppress(OSError):
        for name in names:
            (folder / name).unlink(missing_ok=True)
        for parent in {(folder / name).parent for name in names}:
            parent.rmdir()
