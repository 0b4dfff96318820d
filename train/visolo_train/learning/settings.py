"""Settings of a training that starts from a trained network, by the size of the data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from visolo_core.config import MOBILENETS, PAPER, ModelConfig

_SCORES = 15  # of the held-out part, in a whole training
_PATIENCE = 8  # of them: scores of few frames rise and fall by chance


def settings_for(config: ModelConfig, frames: int) -> dict[str, dict[str, Any]]:
    """Values of the tables ``start``, ``data``, ``schedule``, ``validation`` and ``run``.

    Args:
        config: of the network to start from.
        frames: to learn from, that show an object.
    """
    # Twice the steps for four times the frames.
    steps = 25 * round(12 * min(100.0, max(0.75, (frames / 16) ** 0.5)))
    every = -(-steps // _SCORES)
    small = frames < 60
    return {
        "start": {"frozen": list(_frozen(config, small))},
        "data": {"photos": 0.5, "stretched": 0.6, "reach": 16, "seed": 1},
        "schedule": {
            "steps": steps,
            "warm_up": max(10, steps // 20),
            "average": 0.998,
            "precision": _precision(),
            **(_PAPERS if config == PAPER.with_classes(config.classes) else _SMALL_NETWORKS),
            "batch": 2 if small else 4,
        },
        "validation": {"every": every, "keep": "best", "patience": _PATIENCE},
        "run": {"workers": 1, "save_every": every},
    }


_SMALL_NETWORKS = {
    "learning_rate": 7e-4,
    "backbone_factor": 0.15,
    "weight_decay": 0.02,
    "clip_norm": 1.0,
    "extent": "mask",
    "category_weight": 2.0,
    "tracking_weight": 0.3,
    "departed": True,
}
_PAPERS = {
    "learning_rate": 1e-4,
    "backbone_factor": 0.1,
    "weight_decay": 1e-4,
    "clip_norm": 0.01,
    "extent": "official",
}


def _frozen(config: ModelConfig, small: bool) -> tuple[str, ...]:
    """Parts of the backbone that keep their weights: more of them where there are few data. Batch
    norms cannot be frozen, so a backbone with them learns as a whole."""
    if config.backbone_norm != "frozen":
        return ()
    if config.backbone in MOBILENETS:
        return tuple(f"features.{block}" for block in range(11 if small else 7))
    return ("conv1", "bn1", "layer1", *(("layer2",) if small else ()))


def _precision() -> str:
    """``bfloat16`` where the machine has instructions for it."""
    if torch.cuda.is_available():
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    try:
        processor = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "float32"
    has_it = any(each in processor for each in ("amx_bf16", "avx512_bf16"))
    return "bfloat16" if has_it else "float32"
