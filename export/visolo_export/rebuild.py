"""Engines of a bundle built again, for the TensorRT and the GPU that are here."""

from __future__ import annotations

import json

from visolo_core.contract import GRAPHS
from visolo_core.errors import VisoloError
from visolo_core.files import replaced
from visolo_export.tensorrt_build import TensorRt, usual_lengths
from visolo_runtime.bundle import Bundle, GraphFiles, file_entry
from visolo_runtime.engines.tensorrt.library import LIBRARIES


def rebuild_engines(bundle: Bundle, graphs: GraphFiles, targets: tuple[str, ...]) -> Bundle:
    """Replace engines by new ones, made of the ONNX graphs in the same bundle.

    Args:
        bundle: it holds ONNX graphs of the same precision.
        graphs: the engines to replace.
        targets: GPUs that they shall run on; none stands for the one that is there.

    Returns:
        the bundle with its new manifest.

    Raises:
        VisoloError: if the ONNX graphs are missing, or are int8, which a bundle holds in the form
            for CPUs.
    """
    if graphs.precision == "int8":
        raise VisoloError(
            f"int8 engines cannot be built again from '{bundle.folder}', whose int8 ONNX graphs "
            "are for CPUs: export from the weights, with --calibrate"
        )
    assert graphs.format in LIBRARIES
    library = TensorRt(graphs.format)
    files = bundle.graph_files("onnx", graphs.precision)
    manifest = bundle.manifest
    lengths = usual_lengths(manifest.model.cells, manifest.batch)
    for graph in GRAPHS:
        built = library.build(files[graph], manifest.contract[graph], lengths, targets)
        plan = bundle.folder / graphs.files[graph]
        with replaced(plan) as temporary:
            temporary.write_bytes(built.plan)
        with replaced(plan.with_suffix(".json")) as temporary:
            temporary.write_text(json.dumps(built.as_dict(), indent=1))
    renewed = graphs.model_copy(update={"library": library.version, "targets": list(built.targets)})
    names = [*graphs.files.values(), *graphs.extra]
    manifest = manifest.model_copy(
        update={
            "graphs": [renewed if each == graphs else each for each in manifest.graphs],
            "files": manifest.files | {name: file_entry(bundle.folder / name) for name in names},
            "parity": None,
        }
    )
    manifest.write(bundle.folder)
    return Bundle(bundle.folder)
