"""Weights to bundle: one directory that appears whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from visolo_core import __version__
from visolo_core.checkpoint import Checkpoint
from visolo_core.config import InferenceConfig
from visolo_core.contract import contract
from visolo_core.errors import VisoloError
from visolo_core.files import replaced_folder
from visolo_export.onnx_export import OPSET, export_onnx
from visolo_runtime.bundle import FORMAT_VERSION, GraphFiles, Manifest, file_entry, is_bundle

_PRODUCERS = ("torch", "torchvision", "onnx", "onnxscript")


def write_bundle(
    checkpoint: Checkpoint,
    folder: Path,
    inference: InferenceConfig,
    weights_sha256: str | None = None,
    report: Callable[[str], None] = lambda _: None,
) -> Manifest:
    """Export a checkpoint as a bundle.

    Args:
        checkpoint: weights with configuration and labels.
        folder: the bundle to write; an older bundle of that name is replaced when all is done.
        inference: thresholds, and the number of memory slots of the graphs.
        weights_sha256: checksum of the checkpoint's file, for the manifest.
        report: told what is being made.

    Raises:
        VisoloError: if the folder cannot be written, or is there and no bundle.
    """
    if folder.exists() and not is_bundle(folder):
        raise VisoloError(f"'{folder}' exists and is no bundle: name a new directory")
    with replaced_folder(folder) as work:
        return _fill(checkpoint, work, inference, weights_sha256, report)


def _fill(
    checkpoint: Checkpoint,
    folder: Path,
    inference: InferenceConfig,
    weights_sha256: str | None,
    report: Callable[[str], None],
) -> Manifest:
    model = checkpoint.build()
    slots = max(1, inference.memory_slots)
    specs = contract(model.config, slots)
    files = export_onnx(model, specs, folder, report)
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        model=model.config,
        inference=inference,
        labels=checkpoint.header.labels,
        slots=slots,
        batch=1,
        contract=specs,
        graphs=[GraphFiles(format="onnx", precision="fp32", opset=OPSET, files=files)],
        files={name: file_entry(folder / name) for name in files.values()},
        producer={"visolo": __version__, **{name: metadata.version(name) for name in _PRODUCERS}},
        weights_sha256=weights_sha256,
    )
    manifest.write(folder)
    return manifest
