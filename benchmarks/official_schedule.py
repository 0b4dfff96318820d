"""The same network on the schedule of the official code, against a session of ours.

    python benchmarks/official_schedule.py WEIGHTS BUNDLE [SOURCE] [--precision int8] [--at 300]

The official schedule, run here with our PyTorch network and its float32 results:

* the values of all stored frames are computed anew at every frame, from stored features;
* every fifth frame is stored for ever, so that the memory grows with the video;
* every kept cell is decoded at full resolution, and masks that cover each other are found by a
  Python loop over the pairs.

Both sides resize the same frames and bring the masks to the source's size. They take turns, the
order changes from round to round, and each pair of rounds gives a ratio.

With --at N the frames before N are not run one by one: both memories are filled with what the
first frames of the source yield, over and over, as full as they would be at frame N, and the
frames of a round are timed there.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from visolo_core.association import Associator
from visolo_core.config import InferenceConfig
from visolo_core.decoding import choose_cells, grid_weight, matrix_nms
from visolo_core.masks import resize_masks
from visolo_core.nn import Visolo
from visolo_core.nn.branches import decode_masks
from visolo_core.nn.checkpoint import load_checkpoint
from visolo_runtime.engines.blas import one_thread
from visolo_runtime.session.loading import load
from visolo_runtime.session.session import Session
from visolo_runtime.video.frames import Picture
from visolo_runtime.video.resizing import resize_frame
from visolo_runtime.video.sample_clip import sample_frames
from visolo_runtime.video.sources import Skipped, open_source

_FILLED_FROM = 6  # frames of the source that a long memory is filled with


@dataclass(frozen=True)
class Found:
    """The instances of a frame."""

    track_id: list[int]
    cell: list[int]
    label: list[int]
    score: NDArray[np.float32]
    masks: NDArray[np.bool_]
    """[N, H, W] of the source"""


class OfficialSchedule:
    """A network on a video, the official way.

    Args:
        network: in evaluation mode.
        inference: thresholds; the number of memory slots does not matter.
    """

    def __init__(self, network: Visolo, inference: InferenceConfig) -> None:
        self._network, self._inference = network, inference
        self._associator = Associator(inference.match_threshold, inference.lost_limit)
        self.stored: list[tuple[Tensor, Tensor]] = []
        """key [1, D/2, S] and features [1, 2, D, rows, columns] of every fifth frame"""
        self._last: deque[tuple[Tensor, Tensor]] = deque(maxlen=2)
        self._frame = 0

    @property
    def memory_frames(self) -> int:
        """Frames that the next one reads."""
        return len(self._memory())

    def step(self, frame: Picture) -> Found:
        """The instances of the next frame, uint8 [H, W, 3] RGB."""
        # Without threads of NumPy's that spin, as in a session: the schedules are compared.
        with torch.inference_mode(), one_thread():
            return self._step(frame)

    def _step(self, frame: Picture) -> Found:
        network, settings = self._network, self._inference
        image = torch.from_numpy(resize_frame(frame, network.config.input_size).copy())
        features = network.encode(image.permute(2, 0, 1)[None].float())
        own = (features.key, features.stored)
        memory = self._memory() or [own]
        keys = torch.stack([key for key, _ in memory], dim=1)
        values = torch.stack([network.memory.encode(stored) for _, stored in memory], dim=1)
        valid = torch.ones(1, len(memory), dtype=torch.bool)
        logits, kernels = network.predict(features, keys, values, valid)
        scores, query = logits.sigmoid()[0].numpy(), features.query[0].numpy()
        key = features.key[0].numpy()

        earlier = [*self._last][-1:] + self._kept()
        weight = grid_weight(query, [each[0][0].numpy() for each in earlier])
        candidates = choose_cells(scores, weight, settings.score_threshold)
        chosen, score, masks = self._select(features.mask_features, kernels, candidates)
        cell = candidates.cell[chosen]
        tracks = self._associator.step(cell, query, key, scores)
        self._store(own)
        return Found(
            [track.track_id for track in tracks],
            cell.tolist(),
            candidates.label[chosen].tolist(),
            score,
            resize_masks(masks, frame.shape[:2]),
        )

    def _memory(self) -> list[tuple[Tensor, Tensor]]:
        """Every fifth frame, and the two before this one; some may be both."""
        return [each for each in self.stored if all(each is not last for last in self._last)] + [
            *self._last
        ]

    def _kept(self) -> list[tuple[Tensor, Tensor]]:
        """The newest stored frame that is two back at least."""
        older = [each for each in self.stored if each is not self._last[-1]]
        return older[-1:]

    def _store(self, own: tuple[Tensor, Tensor]) -> None:
        if self._frame % self._inference.keep_every == 0:
            self.stored.append(own)
        self._last.append(own)
        self._frame += 1

    def _select(self, mask_features: Tensor, kernels: Tensor, candidates: Any) -> tuple[Any, ...]:
        settings = self._inference
        if len(candidates.cell) == 0:
            nothing = np.zeros(0, np.float32)
            size = mask_features.shape[-2:]
            return np.zeros(0, np.int64), nothing, np.zeros((0, *size), np.uint8)
        probability = decode_masks(
            mask_features, kernels[:, :, torch.from_numpy(candidates.cell)].transpose(1, 2)
        )[0].sigmoid()
        inside = probability > 0.5
        area = inside.sum((1, 2)).numpy().astype(np.float32)
        index = np.flatnonzero(area > 0)
        certainty = (probability * inside).sum((1, 2)).numpy()[index] / area[index]
        score = candidates.score[index] * certainty
        order = np.argsort(-score, kind="stable")[: settings.pre_nms_limit]
        index, score = index[order], score[order]
        flat = inside[torch.from_numpy(index)].flatten(1).float()
        pairs = (flat @ flat.T).numpy()
        score = matrix_nms(score, candidates.label[index], area[index], pairs, settings.nms_sigma)
        keep = np.flatnonzero(score >= settings.update_threshold)
        order = keep[np.argsort(-score[keep], kind="stable")][: settings.max_instances]
        index, score = index[order], score[order]
        masks = inside[torch.from_numpy(index)]
        survives = [True] * len(index)
        for worse in range(1, len(index)):
            for better in range(worse):
                if not survives[better]:
                    continue
                common = (masks[better] & masks[worse]).sum()
                if common / masks[worse].sum() > settings.overlap_threshold:
                    survives[worse] = False
                    break
        alive = np.array(survives, bool)
        return index[alive], score[alive], masks.numpy()[alive].astype(np.uint8)


def fill(official: OfficialSchedule, session: Session, frames: Sequence[Picture], at: int) -> None:
    """Bring both to frame ``at``: run the first frames, then repeat what they have stored."""
    for frame in frames[:_FILLED_FROM]:
        official.step(frame)
    made = [*official.stored, *official._last]
    due = -(-at // official._inference.keep_every)
    # Frames of their own, not the last two again: those would be read once.
    official.stored = [(key, values) for key, values in (made[n % len(made)] for n in range(due))]
    official._frame = at
    until_full = official._inference.memory_slots * official._inference.keep_every
    for number in range(until_full):  # all slots are read from then on
        session.step(frames[number % _FILLED_FROM])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("weights", type=Path)
    parser.add_argument("bundle", help="of these weights")
    parser.add_argument("source", nargs="?", help="video or folder; a generated clip if not said")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--precision", default="")
    parser.add_argument("--frames", type=int, default=36, help="of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--at", type=int, default=0, help="frame of the video at which it begins")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    report = compare(options)
    text = json.dumps(report, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """Let both take turns."""
    frames = _frames(options.source, max(options.frames, _FILLED_FROM))
    network = load_checkpoint(options.weights).build().eval()
    model = load(options.bundle, options.backend, precision=options.precision)
    spent: dict[str, list[float]] = {"official": [], "ours": []}
    found: dict[str, list[Found]] = {}
    memory = 0
    for number in range(options.rounds):
        official = OfficialSchedule(network, model.inference)
        session = model.session(record=False)
        if options.at:
            fill(official, session, frames, options.at)
        steps: dict[str, Callable[[Picture], Found]] = {
            "official": official.step, "ours": partial(ours, session),
        }  # fmt: skip
        for name in sorted(steps, reverse=bool(number % 2)):
            begin = time.perf_counter()
            found[name] = [steps[name](frame) for frame in frames[: options.frames]]
            spent[name].append((time.perf_counter() - begin) * 1e3 / options.frames)
        memory = official.memory_frames
        print(
            f"round {number + 1}: official {spent['official'][-1]:.1f} ms a frame, "
            f"ours {spent['ours'][-1]:.1f}", file=sys.stderr,
        )  # fmt: skip
    ratios = [a / b for a, b in zip(spent["official"], spent["ours"], strict=True)]
    return {
        "backend": model.engines.description,
        "precision": model.precision,
        "frames": options.frames,
        "at": options.at,
        "official_memory_frames": memory,
        "instances_a_frame": float(np.mean([len(each.cell) for each in found["ours"]])),
        "official_ms": float(np.median(spent["official"])),
        "ours_ms": float(np.median(spent["ours"])),
        "ratios": ratios,
        "ratio": float(np.median(ratios)),
        **agreement(found["official"], found["ours"]),
    }


def agreement(first: Sequence[Found], other: Sequence[Found]) -> dict[str, Any]:
    """Whether two runs have found the same."""
    same = all(
        (a.track_id, a.cell, a.label) == (b.track_id, b.cell, b.label)
        for a, b in zip(first, other, strict=True)
    )
    if not same:
        return {"same_tracks": False, "score_difference": None, "mask_iou": None}
    differences = [
        np.abs(a.score - b.score).max(initial=0) for a, b in zip(first, other, strict=True)
    ]
    ious = [
        (mine & its).sum() / max(1, (mine | its).sum())
        for a, b in zip(first, other, strict=True)
        for mine, its in zip(a.masks, b.masks, strict=True)
    ]
    return {
        "same_tracks": True,
        "score_difference": float(max(differences, default=0)),
        "mask_iou": float(min(ious, default=1)),
    }


def ours(session: Session, frame: Picture) -> Found:
    """A step of a session."""
    found = session.step(frame)
    return Found(
        found.tracker_id.tolist(),
        found.cell.tolist(),
        found.class_id.tolist(),
        found.confidence,
        found.masks,
    )


def _frames(source: str | None, count: int) -> list[Picture]:
    """So many frames; a source that is shorter is played to and fro."""
    if source is None:
        return list(sample_frames(count))
    clip = open_source(source)[0]
    read = [frame for frame in islice(clip.frames(), count) if not isinstance(frame, Skipped)]
    there_and_back = read + read[-2:0:-1]
    return [there_and_back[number % len(there_and_back)] for number in range(count)]


if __name__ == "__main__":
    main()
