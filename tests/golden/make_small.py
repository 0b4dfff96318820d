"""Cuts the part of the golden results that is small enough to be committed.

    python tests/golden/make_small.py GOLDEN_FOLDER

Every twelfth number of the stored tensors of four frames, all decisions of all frames, and the
masks of three frames.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

TENSOR_FRAMES = (0, 1, 6, 11)
MASK_FRAMES = (1, 4, 11)
STEP = 12


def main(golden: Path, target: Path) -> None:
    """Write ``set_a.npz`` and ``set_a.json``."""
    official = golden / "official"
    tensors = np.load(official / "A_frames.npz")
    kept = {key: tensors[key].ravel()[::STEP] for key in tensors if int(key[:2]) in TENSOR_FRAMES}
    np.savez_compressed(target / "set_a.npz", **kept)

    video = json.loads((official / "A_video.json").read_text())
    trace = json.loads((official / "A_trace.json").read_text())
    meta = video["meta"]
    tracks = [
        {
            "label": label,
            "score": score,
            "present": [mask is not None for mask in masks],
            "masks": {frame: masks[frame] for frame in MASK_FRAMES},
        }
        for label, score, masks in zip(
            video["pred_labels"], video["pred_scores"], video["masks"]["352x624"], strict=True
        )
    ]
    small = {
        "constants": meta["P"],
        "offset": meta["offset"],
        "frames": meta["frames"],
        "size": meta["raw_size"],
        "strides": meta["strides"],
        "frame_crc32": meta["raw_frame_crc32"],
        "weights_crc32": {
            name: entry[1]
            for name, entry in json.loads((official / "A_weights_crc32.json").read_text()).items()
        },
        "step": STEP,
        "cells": [frame["valid_ind"] for frame in trace],
        "labels": [frame["labels"] for frame in trace],
        "scores": [frame["scores"] for frame in trace],
        "tracks_of_cells": [frame["inst"] for frame in trace],
        "candidates": [len(frame["nms_in"]) for frame in trace],
        "tracks": tracks,
    }
    (target / "set_a.json").write_text(json.dumps(small))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).parent)
