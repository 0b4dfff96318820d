"""Records the figures of a verification in the manifest of the verified bundle."""

from __future__ import annotations

from pathlib import Path

from visolo_core.errors import VisoloError
from visolo_core.files import check_writable
from visolo_runtime.bundle import MANIFEST, Bundle, Parity, is_bundle


def check_recordable(bundle: Bundle, reference: Path) -> None:
    """Check, before any work, that figures can be recorded and would prove something.

    Raises:
        VisoloError: if the reference is the bundle itself or a copy of it, or the bundle cannot be
            written.
    """
    if is_bundle(reference) and _is_same(bundle, reference):
        raise VisoloError(
            f"'{reference}' holds the same graphs as '{bundle.folder}', and comparing a bundle "
            "with itself proves nothing: leave --record out, or name the weights with --reference"
        )
    check_writable(bundle.folder / MANIFEST)


def record_parity(bundle: Bundle, parity: Parity) -> None:
    """Record figures in the manifest; nothing else in it changes.

    Raises:
        VisoloError: if the manifest cannot be written.
    """
    bundle.manifest.model_copy(update={"parity": parity}).write(bundle.folder)


def _is_same(bundle: Bundle, reference: Path) -> bool:
    """Whether two bundles are the same folder, or one contains all files of the other."""
    if reference.samefile(bundle.folder):
        return True
    checksums, reference_checksums = (
        {entry.sha256 for entry in manifest.files.values()}
        for manifest in (bundle.manifest, Bundle(reference).manifest)
    )
    return checksums <= reference_checksums or reference_checksums <= checksums
