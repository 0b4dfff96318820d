"""Measuring the speed of models so that they can be compared.

Several models take turns in one process: a round of each, in reverse order every other time.
Whatever disturbs the machine for a while then affects them all, and the ratio of two neighbouring
rounds says more than two separate timings.

Each round is a new session over the same source, which is read and decoded again. Its first frames,
during which the memory fills and caches warm up, are not counted. A step ends when its instances
are on the host, so the host's clock times it correctly as a whole. On a GPU, all graphs are
launched and waited for as one: their time is that of the frame graph here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visolo_core.errors import VisoloError
from visolo_runtime.session.loading import Model
from visolo_runtime.session.session import Session
from visolo_runtime.session.stream import GRAPH_STAGES, STAGES
from visolo_runtime.sources.clip import Clip, Skipped, SourceFrame, at_constant_rate
from visolo_runtime.sources.feed import Feed
from visolo_runtime.video.frames import Frame

FrameSource = Callable[[], Iterable[NDArray[np.uint8] | Skipped]]
"""Opens the source again from its start."""

READ, OUTPUT = "read", "masks"
ALL_STAGES = (READ, *STAGES, OUTPUT)


@dataclass(frozen=True)
class Entrant:
    """A model to measure."""

    name: str
    model: Model


@dataclass(frozen=True)
class Plan:
    """How much to run."""

    frames: int = 100
    """frames per round that are counted"""
    warm_up: int = 10
    """frames per round before those"""
    rounds: int = 5
    masks: bool = True
    """resize every mask to the source's size, as drawing it requires"""
    ahead: bool = False
    """read and resize in a thread, as ``visolo run`` does; ``read`` is then the remaining wait"""


@dataclass
class Round:
    """One model over the source once; the lists hold milliseconds of each counted frame."""

    total: list[float] = field(default_factory=list)
    stages: dict[str, list[float]] = field(
        default_factory=lambda: {stage: [] for stage in ALL_STAGES}
    )
    instances: int = 0
    joules: float | None = None
    """energy that the GPU used; None if it is not measured"""

    @property
    def fps(self) -> float:
        """Frames per second."""
        return 1e3 * len(self.total) / sum(self.total)


@dataclass
class Measured:
    """The measurements of one model."""

    name: str
    description: str
    precision: str
    rounds: list[Round] = field(default_factory=list)
    resident_mb: float = 0.0
    """resident memory of the process after this model's last round; all models share the process"""

    @property
    def fps(self) -> float:
        """Frames per second, the median of the rounds."""
        return float(np.median([each.fps for each in self.rounds]))

    def percentile(self, share: float) -> float:
        """Milliseconds that ``share`` percent of all frames did not exceed."""
        return float(np.percentile([ms for each in self.rounds for ms in each.total], share))

    def stage_ms(self) -> dict[str, float]:
        """Mean milliseconds of each stage over all frames. Except for the little time between
        stages, they add up to the mean of a frame."""
        return {
            stage: float(np.mean([ms for each in self.rounds for ms in each.stages[stage]]))
            for stage in ALL_STAGES
        }

    def host_share(self) -> float:
        """The share of a step, 0 to 1, that is spent outside the graphs. Reading frames and
        resizing masks to the source's size are not part of a step."""
        stages = self.stage_ms()
        whole = float(np.mean([ms for each in self.rounds for ms in each.total]))
        step = whole - stages[READ] - stages[OUTPUT]
        return 1 - sum(stages[stage] for stage in GRAPH_STAGES) / step

    def by_position(self) -> list[float]:
        """Milliseconds of each frame of the source, the median of the rounds."""
        shortest = min(len(each.total) for each in self.rounds)
        table = np.array([each.total[:shortest] for each in self.rounds])
        return [float(ms) for ms in np.median(table, axis=0)]

    def as_dict(self) -> dict[str, Any]:
        """Ready for json."""
        joules = [each.joules for each in self.rounds if each.joules is not None]
        frames = sum(len(each.total) for each in self.rounds)
        return {
            "name": self.name,
            "backend": self.description,
            "precision": self.precision,
            "fps": self.fps,
            "fps_of_rounds": [each.fps for each in self.rounds],
            "p50_ms": self.percentile(50),
            "p90_ms": self.percentile(90),
            "p99_ms": self.percentile(99),
            "stage_ms": self.stage_ms(),
            "host_share": self.host_share(),
            "frame_ms": self.by_position(),
            "instances_a_frame": sum(each.instances for each in self.rounds) / frames,
            "resident_mb": self.resident_mb,
            "joules_a_frame": sum(joules) / frames if joules else None,
        }


def measure(
    entrants: Sequence[Entrant],
    frames: FrameSource,
    plan: Plan,
    report: Callable[[str, int], None] = lambda *_: None,
) -> list[Measured]:
    """Measure models that take turns on a source.

    Args:
        entrants: one or more models, loaded.
        frames: opens the source again from its start.
        plan: how much to run.
        report: called with the name of the model and the number of the round, from 0, that begins.

    Raises:
        VisoloError: if the source has too few frames.
    """
    measured = [
        Measured(each.name, each.model.engines.description, each.model.precision)
        for each in entrants
    ]
    meter = GpuMeter.find()
    for number in range(plan.rounds):
        order = range(len(entrants)) if number % 2 == 0 else reversed(range(len(entrants)))
        for index in order:
            report(entrants[index].name, number)
            measured[index].rounds.append(_round(entrants[index].model, frames, plan, meter))
            measured[index].resident_mb = resident_mb()
    return measured


def ratios(first: Measured, other: Measured) -> list[float]:
    """How many times as fast the first is, one ratio per pair of neighbouring rounds."""
    return [a.fps / b.fps for a, b in zip(first.rounds, other.rounds, strict=True)]


def _round(model: Model, frames: FrameSource, plan: Plan, meter: GpuMeter | None) -> Round:
    session = model.session(record=False)
    if not plan.ahead:
        return _play(session, frames(), plan, meter)
    clip = Clip(1, "", lambda: at_constant_rate(frames()))
    with Feed(clip, resize=session.resize_ahead) as feed:
        return _play(session, _frames_of(feed), plan, meter)


def _frames_of(feed: Feed) -> Iterator[Frame | Skipped]:
    while (ready := feed.take()) is not None:
        if isinstance(ready.frame, SourceFrame):
            yield ready.resized or ready.frame.picture
        else:
            yield ready.frame


def _play(
    session: Session, source: Iterable[Frame | Skipped], plan: Plan, meter: GpuMeter | None
) -> Round:
    counted = Round()
    timed = _timed(source)
    for _, frame in islice(timed, plan.warm_up):
        instances = session.step(frame)
        if plan.masks:
            _ = instances.masks
    before = meter.joules() if meter else 0.0
    for read_ms, frame in islice(timed, plan.frames):
        begin = time.perf_counter()
        instances = session.step(frame)
        stepped = time.perf_counter()
        if plan.masks:
            _ = instances.masks
        end = time.perf_counter()
        counted.instances += len(instances)
        counted.total.append(read_ms + (end - begin) * 1e3)
        stages = dict.fromkeys(ALL_STAGES, 0.0) | session.stage_ms
        stages |= {READ: read_ms, OUTPUT: (end - stepped) * 1e3}
        for stage, spent in stages.items():
            counted.stages[stage].append(spent)
    if not counted.total:
        raise VisoloError(
            f"the source has no frame left after {plan.warm_up} warm-up frames: name a longer one"
        )
    if meter:
        counted.joules = meter.joules() - before
    return counted


def _timed(source: Iterable[Frame | Skipped]) -> Iterator[tuple[float, Frame]]:
    """The readable frames, each with the milliseconds that reading it took."""
    frames = iter(source)
    while True:
        begin = time.perf_counter()
        frame = next(frames, None)
        spent = (time.perf_counter() - begin) * 1e3
        if frame is None:
            return
        if not isinstance(frame, Skipped):
            yield spent, frame


def resident_mb() -> float:
    """Resident memory of this process in MB; 0 where the system does not report it."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


class GpuMeter:
    """Reads the energy that a GPU has used from NVIDIA's management library.

    Args:
        library: the module ``pynvml``.
        index: of the GPU.
    """

    def __init__(self, library: Any, index: int = 0) -> None:
        self._library = library
        self._handle = library.nvmlDeviceGetHandleByIndex(index)

    @classmethod
    def find(cls) -> GpuMeter | None:
        """A meter; None if pynvml is not installed or no GPU reports its energy."""
        try:
            import pynvml
        except ImportError:
            return None
        try:
            pynvml.nvmlInit()
            meter = cls(pynvml)
            meter.joules()
        except pynvml.NVMLError:
            return None
        return meter

    def joules(self) -> float:
        """Energy used since the driver was loaded."""
        return float(self._library.nvmlDeviceGetTotalEnergyConsumption(self._handle)) / 1e3
