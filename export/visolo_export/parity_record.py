"""Figures of a verification, noted in the manifest of the bundle that was verified."""

from __future__ import annotations

from pathlib import Path

from visolo_core.errors import VisoloError
from visolo_core.files import temporary_beside
from visolo_runtime.bundle import MANIFEST, Bundle, Parity, is_bundle


def check_recordable(bundle: Bundle, reference: Path) -> None:
    """Make sure, before any work, that figures can be noted and would prove something.

    Raises:
        VisoloError: if the reference is the bundle itself or a copy of it, or the bundle cannot be
            written.
    """
    if is_bundle(reference) and _is_same(bundle, reference):
        raise VisoloError(
            f"'{reference}' holds the same graphs as '{bundle.folder}', and a bundle is no proof "
            "of itself: leave --record out, or name the weights with --reference"
        )
    temporary_beside(bundle.folder / MANIFEST).unlink()


def record_parity(bundle: Bundle, parity: Parity) -> None:
    """Note figures in the manifest; nothing else of it changes.

    Raises:
        VisoloError: if it cannot be written.
    """
    bundle.manifest.model_copy(update={"parity": parity}).write(bundle.folder)


def _is_same(bundle: Bundle, reference: Path) -> bool:
    """Whether two bundles are one folder, or all files of one are in the other as well."""
    if reference.samefile(bundle.folder):
        return True
    mine, its = (
        {entry.sha256 for entry in manifest.files.values()}
        for manifest in (bundle.manifest, Bundle(reference).manifest)
    )
    return mine <= its or its <= mine
