"""Verifies that a bundle computes what its weights compute.

Both sides run on the same frames, in two ways. Graph by graph: both get the same inputs, those of
the reference as it runs; how far does each output differ? Closed-loop: each side runs the clip with
its own memory; do both yield the same tracks, and how far do their scores and masks differ?
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visolo_core.contract import GRAPHS, GraphName
from visolo_core.decoding import Candidates, Floats, Ints
from visolo_export.comparison import (
    TensorError,
    TrackComparison,
    compare_tracks,
    mask_agreement,
    mask_iou,
)
from visolo_runtime.bundle import Precision
from visolo_runtime.engines.buffers import (
    STAGE_OUTPUTS,
    Array,
    Buffers,
    DecodedMasks,
    FrameInput,
    Storage,
)
from visolo_runtime.engines.engine import Engines
from visolo_runtime.session.loading import Model
from visolo_runtime.session.session import Session

Frames = list[NDArray[np.uint8]]


@dataclass(frozen=True)
class Tolerance:
    """Largest differences that still count as the same numbers.

    The defaults are for fp32; ``TOLERANCES`` has those of the other precisions. Two float32
    convolution libraries differ by 5e-4 on features and 2e-4 on scores of the paper's network, and
    by a few pixels along a mask's edge; the defaults leave a factor of four.
    """

    tensor: float = 2e-3
    """features, keys, queries, values, kernels: absolute, values are of order 1"""
    stage: float = 1e-4
    """outputs of the backbone's stages: relative to the largest value, since some are large"""
    score: float = 1e-3
    """class scores of cells and scores of tracks: absolute"""
    sum: float = 1e-3
    """areas, probability sums and intersections: relative to the largest, since they count
    pixels"""
    mask_iou: float = 0.999
    """smallest overlap of two masks of one instance that differ by more than a few pixels of the
    edge, see ``visolo_export.comparison.mask_agreement``"""
    same_tracks: bool = True
    """whether both must yield the same tracks, in the same frames, with scores and masks within
    tolerance"""


TOLERANCES: dict[Precision, Tolerance] = {
    "fp32": Tolerance(),
    # float16 has 11 bits: each rounding costs half a thousandth of a value, and features of up to
    # 10 have passed through fifty layers. A pixel on a mask's edge may change sides.
    "fp16": Tolerance(tensor=0.05, stage=0.01, score=0.01, mask_iou=0.99),
    # bfloat16 has 8 bits.
    "bf16": Tolerance(tensor=0.4, stage=0.08, score=0.05, mask_iou=0.95),
    # 8 bits are 1/256 of a tensor's range for each value, in every layer, and features reach 10.
    # An object may be detected at another cell, which changes its mask in that frame and its track:
    # those are reported only, and average precision decides (``visolo verify --data``).
    "int8": Tolerance(tensor=2.0, stage=0.3, score=0.1, mask_iou=0.99, same_tracks=False),
    "fp8": Tolerance(tensor=2.0, stage=0.3, score=0.1, mask_iou=0.99, same_tracks=False),
}
BISECT_TOLERANCES: dict[Precision, float] = {
    "fp32": 1e-4,
    "fp16": 5e-3,
    "bf16": 4e-2,
    "int8": 0.1,
    "fp8": 0.1,
}
"""Error relative to a layer's largest value, above which the layer counts as different."""


@dataclass(frozen=True)
class Verification:
    """What was compared, and the differences."""

    frames: int
    tolerance: Tolerance
    tensors: dict[GraphName, dict[str, TensorError]]
    decoded_mask_iou: float | None
    """smallest IoU of the two masks of a cell, decoded from the same inputs"""
    decoded_mask_agreement: float | None
    """the same with ``mask_agreement``, which is what the tolerance applies to"""
    tracks: TrackComparison
    drift: dict[str, list[float]]
    """closed-loop, by tensor of the frame graph: relative error in each frame"""

    @property
    def failures(self) -> list[str]:
        """Everything over tolerance, a sentence each."""
        return [*_tensor_failures(self), *_track_failures(self)]

    @property
    def passed(self) -> bool:
        """Whether everything lies within tolerance."""
        return not self.failures

    def as_dict(self) -> dict[str, Any]:
        """The whole report, ready for JSON; an error that is not finite becomes None."""
        tensors = {
            graph: {name: error.as_dict() for name, error in tensors.items()}
            for graph, tensors in self.tensors.items()
        }
        report = asdict(self)
        # Tolerances apply to agreements; the figures that are reported are plain overlaps.
        del report["decoded_mask_agreement"], report["tracks"]["min_mask_agreement"]
        return report | {
            "tensors": tensors,
            "drift": {
                name: [error if np.isfinite(error) else None for error in errors]
                for name, errors in self.drift.items()
            },
            "failures": self.failures,
            "passed": self.passed,
        }


class _ParityBuffers(Buffers):
    """The reference's buffers, which have the candidate repeat each call on the same inputs."""

    def __init__(self, reference: Engines, candidate: Engines) -> None:
        super().__init__(reference.contract, rows=1, batch=1)
        self._reference, self._candidate = reference.buffers(), candidate.buffers()
        self.errors: dict[GraphName, dict[str, TensorError]] = {
            graph: {name: TensorError() for name in reference.contract[graph].names("outputs")}
            for graph in GRAPHS
        }
        self.mask_iou: float | None = None
        self.mask_agreement: float | None = None

    def submit(self, rows: range, inputs: Sequence[FrameInput]) -> None:
        self._copy("memory_key", "memory_value", "recent_key")
        self._threshold = inputs[0].score_threshold
        for each in (self._reference, self._candidate):
            each.submit(rows, inputs)

    def frame(self) -> list[Candidates]:
        candidates = self._reference.frame()
        self._candidate.frame()
        errors = self.errors["frame"]
        for name in _DENSE_OUTPUTS:
            errors[name].add(self.read(name), self._candidate.read(name))
        self._compare_choice(self._threshold)
        # From here on the candidate works on the reference's tensors. The mask graph runs for every
        # frame, although a session needs it only where there are candidates.
        self._copy("kernels", "key", "features", *STAGE_OUTPUTS)
        for each in (self._reference, self._candidate):
            each.mask([0])
        self.errors["mask"]["mask_features"].add(
            self.read("mask_features"), self._candidate.read("mask_features")
        )
        self._copy("mask_features")
        return candidates

    def mask(self, rows: Sequence[int]) -> None:
        return

    def store(self, rows: range, storage: Sequence[Storage]) -> None:
        both = (self._reference, self._candidate)
        for each in both:
            each.store(rows, storage)
        if storage[0].slot is not None:
            values = (each.read("memory_value")[:, storage[0].slot] for each in both)
            self.errors["memory"]["value"].add(*values)

    def decode(self, row: int, cell: Ints) -> DecodedMasks:
        expected, actual = self._reference.decode(row, cell), self._candidate.decode(row, cell)
        for name, error in self.errors["decode"].items():
            error.add(getattr(expected, name), getattr(actual, name))
        for first, second in zip(expected.masks, actual.masks, strict=True):
            masks = first > 0, second > 0
            self.mask_iou = _lower(self.mask_iou, mask_iou(*masks))
            self.mask_agreement = _lower(self.mask_agreement, mask_agreement(*masks))
        return expected

    def read(self, name: str, row: int = 0) -> Array:
        return self._reference.read(name, row)

    def write(self, name: str, values: Array, row: int = 0) -> None:
        self._reference.write(name, values, row)

    def _copy(self, *names: str) -> None:
        for name in names:
            self._candidate.write(name, self.read(name))

    def _compare_choice(self, threshold: float) -> None:
        """Compare the candidate's best cells with what the reference knows about all cells.

        Two cells that are nearly equal may change places, so each is compared with the reference's
        values of the same cell. The errors of ``cell`` and ``count`` are in units of the score.
        """
        errors = self.errors["frame"]
        count, cell = (self._candidate.read(name)[0] for name in ("count", "cell"))
        score = self._candidate.read("cell_score")[0]
        every = self._reference.choose_from_all(0, score_threshold=-1.0)  # ordered by score
        by_cell = np.empty_like(every.score)
        by_cell[every.cell] = every.score
        errors["cell_score"].add(every.score[: len(score)], score)
        errors["cell"].add(by_cell[cell], score)
        errors["count"].add(*_thresholds(every.score, int(count), threshold))
        for name, dense in _OF_CELLS.items():
            errors[name].add(self.read(dense)[0][:, cell].T, self._candidate.read(name)[0])


_OF_CELLS = {
    "cell_classes": "scores", "cell_query": "query", "cell_key": "key", "cell_kernel": "kernels",
}  # fmt: skip
_LOOPED_OUTPUTS = (*_OF_CELLS.values(), "features")
_DENSE_OUTPUTS = (*_LOOPED_OUTPUTS, *STAGE_OUTPUTS)


def _thresholds(scores: Floats, count: int, threshold: float) -> tuple[Floats, Floats]:
    """The threshold, and the nearest one that so many scores [S], best first, reach."""
    reached = int((scores >= np.float32(threshold)).sum())
    nearest = np.float32(threshold)
    if count > reached:
        nearest = scores[count - 1]
    elif count < reached:
        nearest = scores[count]
    return np.array([threshold], np.float32), np.array([nearest], np.float32)


def verify(
    reference: Model,
    candidate: Model,
    frames: Frames,
    tolerance: Tolerance,
    report: Callable[[str], None] = lambda _: None,
) -> Verification:
    """Compare a model with its reference on a clip.

    Args:
        reference: usually weights run by PyTorch, with the candidate's inference settings.
        candidate: usually a bundle.
        frames: uint8 [H, W, 3] RGB each, at least one.
        tolerance: largest differences that pass.
        report: called with what is being run.
    """
    report("graph by graph")
    parity = _ParityBuffers(reference.engines, candidate.engines)
    reference_session = Session(parity, reference.stream_options(record=False))
    for frame in frames:
        reference_session.step(frame)

    report("closed-loop")
    both = reference.engines.buffers(), candidate.engines.buffers()
    sessions = [Session(each, reference.stream_options()) for each in both]
    drift: dict[str, list[float]] = {name: [] for name in _LOOPED_OUTPUTS}
    for frame in frames:
        for session in sessions:
            session.step(frame)
        for name, errors in drift.items():
            error = TensorError()
            error.add(*(each.read(name) for each in both))
            errors.append(error.relative)
    tracks = compare_tracks(*(session.finish() for session in sessions))
    return Verification(
        len(frames),
        tolerance,
        parity.errors,
        parity.mask_iou,
        parity.mask_agreement,
        tracks,
        drift,
    )


def _lower(lowest: float | None, figure: float) -> float:
    return figure if lowest is None else min(lowest, figure)


def limit_of(tensor: str, tolerance: Tolerance) -> tuple[str, float] | None:
    """Which measure of a tensor is bounded, ``absolute`` or ``relative``, and by how much.

    Masks have none: they are judged by their overlap.
    """
    if tensor == "masks":
        return None
    if tensor in ("scores", "count", "cell", "cell_score", "cell_classes"):
        return "absolute", tolerance.score
    if tensor in STAGE_OUTPUTS:
        return "relative", tolerance.stage
    if tensor in ("area", "probability_sum", "intersection"):
        return "relative", tolerance.sum
    return "absolute", tolerance.tensor


def _tensor_failures(result: Verification) -> list[str]:
    failures = []
    for graph, tensors in result.tensors.items():
        for name, error in tensors.items():
            limit = limit_of(name, result.tolerance)
            if limit and getattr(error, limit[0]) > limit[1]:
                measured = getattr(error, limit[0])
                failures.append(f"{graph}.{name}: {limit[0]} error {measured:.2g} > {limit[1]:.2g}")
    least = result.tolerance.mask_iou
    agreement = result.decoded_mask_agreement
    if agreement is not None and agreement < least:
        failures.append(f"decode.masks: IoU {result.decoded_mask_iou:.5f} < {least}")
    return failures


def _track_failures(result: Verification) -> list[str]:
    failures: list[str] = []
    tracks, least = result.tracks, result.tolerance.mask_iou
    if not result.tolerance.same_tracks:
        return failures
    if not tracks.same_tracks:
        failures.append(
            f"closed-loop: tracks differ, {len(tracks.unmatched_reference)} of "
            f"{tracks.reference_tracks} are missing and {len(tracks.unmatched_candidate)} are new"
        )
    if (tracks.max_score_difference or 0) > result.tolerance.score:
        failures.append(
            f"closed-loop: score difference {tracks.max_score_difference:.2g} > "
            f"{result.tolerance.score:.2g}"
        )
    if tracks.min_mask_agreement is not None and tracks.min_mask_agreement < least:
        failures.append(f"closed-loop: mask IoU {tracks.min_mask_iou:.5f} < {least}")
    return failures
