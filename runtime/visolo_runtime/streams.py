"""Several video streams through one set of engines.

Each stream has a session of its own; nothing that one shows can change what another yields. Where
the engines take several frames at once, the streams that have one go through the frame and memory
graphs together, and threads share the resizing of their frames.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from visolo_core.results import Instances
from visolo_runtime.model import Model
from visolo_runtime.session import Frame, Session


class Streams:
    """Follows the instances of several videos. Close it, or use it in a ``with`` block.

    Args:
        model: its engines are shared.
        sizes: one a stream: height and width of its masks, None for the frame's own.
        record: keep every mask for the sessions' ``finish``.
    """

    def __init__(
        self, model: Model, sizes: Sequence[tuple[int, int] | None], record: bool = False
    ) -> None:
        self._model, self._record = model, record
        self._group = model.engines.group(len(sizes))
        self.sessions = [self._session(stream, size) for stream, size in enumerate(sizes)]
        """One a stream."""
        threads = min(len(sizes), os.cpu_count() or 1)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="visolo")

    def restart(self, stream: int, size: tuple[int, int] | None = None) -> None:
        """Let another video begin in the place of one that is over.

        Args:
            stream: its number.
            size: of its masks.
        """
        self.sessions[stream] = self._session(stream, size)

    def step(self, frames: Mapping[int, Frame]) -> dict[int, Instances]:
        """The instances of the next frame of those streams that have one.

        Args:
            frames: by stream, each as for :meth:`Session.step`.

        Raises:
            VisoloError: if a frame is of another type, shape or size than its stream's others.
        """
        found: dict[int, Instances] = {}
        for run in neighbours(sorted(frames), self._group.batch):
            found |= self._step(run, [frames[stream] for stream in run])
        return found

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()

    def __enter__(self) -> Streams:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _session(self, stream: int, size: tuple[int, int] | None) -> Session:
        chain = self._group.chains[stream]
        return Session(chain, self._model.inference, self._record, size)

    def _step(self, run: range, frames: list[Frame]) -> dict[int, Instances]:
        sessions = self.sessions[run.start : run.stop]
        each = self._pool.map if len(run) > 1 else map
        images, valid = zip(*each(Session.prepare, sessions, frames), strict=True)
        begin = time.perf_counter()
        results = self._group.frame(run.start, images, valid)
        self._share("frame graph", sessions, begin)
        finished = list(map(Session.finish_frame, sessions, results))
        slots = [slot for _, slot in finished if slot is not None]
        if slots:  # all or none of them have a memory
            begin = time.perf_counter()
            self._group.store(run.start, slots)
            self._share("memory graph", sessions, begin)
        return {stream: instances for stream, (instances, _) in zip(run, finished, strict=True)}

    @staticmethod
    def _share(stage: str, sessions: list[Session], begin: float) -> None:
        share = (time.perf_counter() - begin) * 1e3 / len(sessions)
        for session in sessions:
            session.stage_ms[stage] += share


def neighbours(streams: Sequence[int], most: int) -> Iterator[range]:
    """Runs of consecutive numbers, none longer than ``most``.

    >>> list(neighbours([0, 1, 2, 4], 2))
    [range(0, 2), range(2, 3), range(4, 5)]
    """
    begin = 0
    for end in range(1, len(streams) + 1):
        ends = end == len(streams) or streams[end] != streams[end - 1] + 1 or end - begin == most
        if ends:
            yield range(streams[begin], streams[end - 1] + 1)
            begin = end
