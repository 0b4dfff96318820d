"""Which work is the same work: hashes of a video's content, of a model, and of both with the
settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from visolo_core.categories import LabelSet
from visolo_core.checkpoint_header import SAFETENSORS, is_weights_file, read_header
from visolo_core.config import InferenceConfig
from visolo_core.errors import VisoloError
from visolo_core.files import reason
from visolo_runtime.bulk.plan import BulkSettings, BulkVideo
from visolo_runtime.bundle import Bundle, file_entry
from visolo_runtime.models.shipped import SHIPPED, model_path

_KEY_LENGTH = 16  # hexadecimal digits: among a million keys, two are the same once in 10^7 times


@dataclass(frozen=True)
class ModelIdentity:
    """A model, known without opening its engines."""

    hash: str
    inference: InferenceConfig
    """its own settings"""
    labels: LabelSet | None
    """None where only PyTorch could read them"""


def identify(model: str) -> ModelIdentity:
    """What a model is.

    Args:
        model: a bundle's directory, weights, or a name that ``load`` knows.

    Raises:
        VisoloError: if it is missing, or neither a bundle nor weights.
    """
    path = model_path(model)
    if path.is_dir():
        manifest = Bundle(path).manifest
        # Without what was measured later: `visolo verify --record` makes no other model of it.
        text = manifest.model_dump_json(exclude={"parity", "producer"})
        return ModelIdentity(_hash(text), manifest.inference, manifest.labels)
    if not path.exists():
        raise VisoloError(
            f"there is no model '{model}': name a bundle or weights, or one of the package's own, "
            f"{' or '.join(SHIPPED)}"
        )
    if not is_weights_file(path):
        raise VisoloError(f"'{model}' is neither a bundle nor weights (.safetensors, .pt, .pth)")
    labels = read_header(path).labels if path.suffix == SAFETENSORS else None
    return ModelIdentity(content_of([str(path)]), InferenceConfig(), labels)


def content_of(files: Sequence[str]) -> str:
    """Hash of the bytes of files, in their order.

    Raises:
        VisoloError: if one cannot be read.
    """
    entries = []
    for name in files:
        try:
            entries.append(file_entry(Path(name)).sha256)
        except OSError as error:
            raise VisoloError(f"cannot read '{name}': {reason(error)}") from error
    return entries[0] if len(entries) == 1 else _hash("\n".join(entries))


def with_key(video: BulkVideo, model_hash: str, settings: BulkSettings) -> BulkVideo:
    """The video with its key. Two videos of the same content and name are the same work."""
    told = [
        video.content, video.name, video.video_id, video.size, video.frame_names, model_hash,
        settings.as_text(),
    ]  # fmt: skip
    return replace(video, key=_hash(json.dumps(told))[:_KEY_LENGTH])


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
