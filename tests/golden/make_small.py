"""Extracts the part of the golden results that is small enough to be committed.

    python tests/golden/make_small.py GOLDEN_FOLDER

Set A: every twelfth number of the stored tensors of four frames, all decisions of all frames, and
the masks of three frames. Units: the small ones unchanged; of the decoded frames five cases, with
the kernels of the cells that can become candidates. The training step: targets, losses and
gradients unchanged, every twelfth class logit. The evaluator's files are compressed, but complete.
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

TENSOR_FRAMES = (0, 1, 6, 11)
MASK_FRAMES = (1, 4, 11)
STEP = 12
DECODED = ("only_cell0", "cell0_and_other", "dense", "common_gw", "empty_masks")
CANDIDATE_SCORE = 0.09
"""Cells with this score or more are kept; decoding begins at 0.1."""
TRAINING_FACTS = ("offset", "P", "clips", "losses", "stats", "grads", "frozen")


def main(golden: Path, target: Path) -> None:
    """Write all parts."""
    set_a(golden / "official", target)
    units(golden / "official", target)
    training(golden / "official", target)
    evaluator(golden / "evaluator", target / "evaluator")


def set_a(official: Path, target: Path) -> None:
    """Write ``set_a.npz`` and ``set_a.json``."""
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


def units(official: Path, target: Path) -> None:
    """Write ``units.npz`` and ``units.json``."""
    arrays = np.load(official / "units.npz")
    facts = json.loads((official / "units.json").read_text())
    kept = {key: arrays[key] for key in arrays if not key.startswith("seg_")}
    cases: dict[str, Any] = {}
    for case in DECODED:
        mine = {key: arrays[key] for key in arrays if key.rsplit("_", 1)[0] == f"seg_{case}"}
        weight = mine.get(f"seg_{case}_gw", np.ones(1)).ravel()
        best = mine[f"seg_{case}_cats"].max(axis=0).ravel() * weight
        cells = np.flatnonzero(best >= CANDIDATE_SCORE)
        kernels = mine[f"seg_{case}_kernels"].reshape(-1, best.size)[:, cells]
        kept |= mine | {f"seg_{case}_kernels": kernels, f"seg_{case}_cells": cells}
        cases[f"seg {case}"] = facts[f"seg {case}"]
        rles = official / f"unit_seg_{case}_rle.json"
        if rles.exists():
            cases[f"seg {case}"]["masks"] = json.loads(rles.read_text())
    np.savez_compressed(target / "units.npz", **kept)
    (target / "units.json").write_text(json.dumps(cases))


def training(official: Path, target: Path) -> None:
    """Write ``train.npz`` and ``train.json``."""
    arrays = np.load(official / "A_train.npz")
    kept = {key: arrays[key] for key in ("GT_classes_nonzero", "GT_tracking_nonzero")}
    kept["pred_cats"] = arrays["pred_cats"].ravel()[::STEP]
    np.savez_compressed(target / "train.npz", **kept)
    facts = json.loads((official / "A_train.json").read_text())
    small = {"step": STEP} | {name: facts[name] for name in TRAINING_FACTS}
    (target / "train.json").write_text(json.dumps(small))


def evaluator(source: Path, target: Path) -> None:
    """Compress every JSON file."""
    target.mkdir(exist_ok=True)
    for path in sorted(source.glob("*.json")):
        # Without a time stamp, so that the same contents give the same file.
        packed = gzip.compress(path.read_bytes(), mtime=0)
        (target / f"{path.name}.gz").write_bytes(packed)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).parent)
