"""Compares the schedule of the official code with a session, on the same network.

    python benchmarks/official_schedule.py WEIGHTS BUNDLE [SOURCE] [--precision int8] [--at 300]

The official schedule is run with this project's PyTorch network in float32:

* the values of all stored frames are recomputed at every frame, from stored features;
* every fifth frame is stored and never removed, so that the memory grows with the video;
* every kept cell is decoded at full resolution, and a Python loop over all pairs finds masks that
  cover each other.

Both sides resize the same frames, and resize masks to the source's size. They take turns in an
order that alternates from round to round, and each round gives a ratio.

With --at N the frames before N are not run one by one. Instead both memories are filled, with what
the first frames of the source yield, repeated, until they are as full as at frame N; the frames of
a round are timed from there.
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
from visolo_runtime.sources.opening import open_source
from visolo_runtime.video.frames import Picture
from visolo_runtime.video.resizing import resize_frame
from visolo_runtime.video.sample_clip import sample_frames

_FILLED_FROM = 6  # frames of the source that a long memory is filled with


@dataclass(frozen=True)
class FrameInstances:
    """The instances of a frame."""

    track_id: list[int]
    cell: list[int]
    label: list[int]
    score: NDArray[np.float32]
    masks: NDArray[np.bool_]
    """[N, H, W] of the source"""


class OfficialSchedule:
    """Runs a network on a video on the official schedule.

    Args:
        network: in evaluation mode.
        inference: thresholds; the number of memory slots has no effect.
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
        """Number of frames that the next frame reads."""
        return len(self._memory())

    def step(self, frame: Picture) -> FrameInstances:
        """The instances of the next frame, uint8 [H, W, 3] RGB."""
        # As in a session, NumPy's threads must not spin, so that only the schedules differ.
        with torch.inference_mode(), one_thread():
            return self._step(frame)

    def _step(self, frame: Picture) -> FrameInstances:
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
        candidates = choose_cells(scores, weight, settings.score_threshold, query, key)
        # The official code computes the mask features of every frame.
        mask_features = network.mask_branch(features.res2, features.res3, features.res4)
        chosen, score, masks = self._select(mask_features, kernels, candidates)
        cell = candidates.cell[chosen]
        tracks = self._associator.step(
            candidates.query[chosen], candidates.key[chosen], candidates.classes[chosen]
        )
        self._store(own)
        return FrameInstances(
            [track.track_id for track in tracks],
            cell.tolist(),
            candidates.label[chosen].tolist(),
            score,
            resize_masks(masks, frame.shape[:2]),
        )

    def _memory(self) -> list[tuple[Tensor, Tensor]]:
        """Every fifth frame and the last two, each frame once."""
        return [each for each in self.stored if all(each is not last for last in self._last)] + [
            *self._last
        ]

    def _kept(self) -> list[tuple[Tensor, Tensor]]:
        """The newest stored frame that is at least two frames back."""
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
            no_scores = np.zeros(0, np.float32)
            size = mask_features.shape[-2:]
            return np.zeros(0, np.int64), no_scores, np.zeros((0, *size), np.uint8)
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
    """Bring both to frame ``at``: run the first frames, then repeat what they stored."""
    for frame in frames[:_FILLED_FROM]:
        official.step(frame)
    entries = [*official.stored, *official._last]
    count = -(-at // official._inference.keep_every)
    # New tuples, since a stored entry that is also one of the last two is read only once.
    repeated = (entries[number % len(entries)] for number in range(count))
    official.stored = [(key, features) for key, features in repeated]
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
    parser.add_argument("source", nargs="?", help="video or folder; a generated clip by default")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--precision", default="")
    parser.add_argument("--frames", type=int, default=36, help="frames in each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--at", type=int, default=0, help="frame of the video to begin at")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    report = compare(options)
    text = json.dumps(report, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """Time both in turns."""
    frames = _frames(options.source, max(options.frames, _FILLED_FROM))
    network = load_checkpoint(options.weights).build().eval()
    model = load(options.bundle, options.backend, precision=options.precision)
    spent: dict[str, list[float]] = {"official": [], "ours": []}
    instances: dict[str, list[FrameInstances]] = {}
    memory = 0
    for number in range(options.rounds):
        official = OfficialSchedule(network, model.inference)
        session = model.session(record=False)
        if options.at:
            fill(official, session, frames, options.at)
        steps: dict[str, Callable[[Picture], FrameInstances]] = {
            "official": official.step, "ours": partial(ours, session),
        }  # fmt: skip
        for name in sorted(steps, reverse=bool(number % 2)):
            begin = time.perf_counter()
            instances[name] = [steps[name](frame) for frame in frames[: options.frames]]
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
        "instances_a_frame": float(np.mean([len(each.cell) for each in instances["ours"]])),
        "official_ms": float(np.median(spent["official"])),
        "ours_ms": float(np.median(spent["ours"])),
        "ratios": ratios,
        "ratio": float(np.median(ratios)),
        **agreement(instances["official"], instances["ours"]),
    }


def agreement(first: Sequence[FrameInstances], other: Sequence[FrameInstances]) -> dict[str, Any]:
    """Whether two runs yielded the same tracks, and how far their scores and masks differ."""
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


def ours(session: Session, frame: Picture) -> FrameInstances:
    """A step of a session."""
    instances = session.step(frame)
    return FrameInstances(
        instances.tracker_id.tolist(),
        instances.cell.tolist(),
        instances.class_id.tolist(),
        instances.confidence,
        instances.masks,
    )


def _frames(source: str | None, count: int) -> list[Picture]:
    """The first ``count`` frames; a shorter source is played forwards and backwards."""
    if source is None:
        return list(sample_frames(count))
    clip = open_source(source)[0]
    read = list(islice(clip.pictures(), count))
    there_and_back = read + read[-2:0:-1]
    return [there_and_back[number % len(there_and_back)] for number in range(count)]


if __name__ == "__main__":
    main()
