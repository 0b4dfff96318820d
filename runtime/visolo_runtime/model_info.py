"""A description of a bundle or a weights file."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from visolo_core.checkpoint_header import SAFETENSORS, CheckpointHeader, read_header
from visolo_core.errors import VisoloError
from visolo_runtime.bundle import Bundle, Manifest


@dataclass(frozen=True)
class WeightsInfo:
    """A weights file."""

    path: Path
    header: CheckpointHeader
    size: int
    """bytes"""

    def as_dict(self) -> dict[str, Any]:
        """What ``visolo info --json`` prints."""
        return {
            "kind": "weights",
            "path": str(self.path),
            "model": asdict(self.header.config),
            "labels": asdict(self.header.labels),
            "bytes": self.size,
        }


@dataclass(frozen=True)
class BundleInfo:
    """A bundle whose files match their checksums."""

    path: Path
    manifest: Manifest

    @property
    def size(self) -> int:
        """Total size of its files in bytes."""
        return sum(entry.size for entry in self.manifest.files.values())

    def as_dict(self) -> dict[str, Any]:
        """What ``visolo info --json`` prints: the manifest, its path and its size."""
        return {
            "kind": "bundle",
            "path": str(self.path),
            **self.manifest.model_dump(mode="json"),
            "bytes": self.size,
        }


def describe(path: Path) -> BundleInfo | WeightsInfo:
    """Describe a model; a bundle's checksums are verified.

    Raises:
        VisoloError: if it is neither a bundle nor weights, or is damaged.
    """
    if path.is_dir():
        bundle = Bundle(path)
        bundle.check_files()
        return BundleInfo(path, bundle.manifest)
    if not path.exists():
        raise VisoloError(f"there is no model '{path}'")
    return WeightsInfo(path, _header(path), path.stat().st_size)


def _header(path: Path) -> CheckpointHeader:
    # The header of a safetensors file can be read on machines without PyTorch.
    if path.suffix == SAFETENSORS:
        return read_header(path)
    from visolo_core.nn.checkpoint import load_checkpoint

    return load_checkpoint(path).header
