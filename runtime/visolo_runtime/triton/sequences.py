"""Sequences become sessions: one begins, goes on frame by frame, and ends or is forgotten.

Nothing here knows of Triton. A sequence has a row of the streams from its start to its end, or
until it has been idle for too long; frames of several sequences are stepped together.
"""

from __future__ import annotations

import heapq
import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from visolo_core.errors import VisoloError
from visolo_core.instances import Instances
from visolo_runtime.session.loading import Model
from visolo_runtime.session.streams import Streams
from visolo_runtime.sources.pictures import read_jpeg
from visolo_runtime.triton.messages import Answer, Request, SequenceId, check_request, shown
from visolo_runtime.triton.settings import MOST_PIXELS, parse_settings
from visolo_runtime.video.frames import Picture


@dataclass
class _Open:
    """A sequence that has begun and not ended."""

    sequence: SequenceId
    row: int
    session: str
    last_used_s: float
    """by the clock"""


class Sequences:
    """The sequences of one replica. Close it, or use it in a ``with`` block.

    Args:
        model: its engines are shared.
        most: sequences that can be open at a time.
        idle_s: a sequence without a request for longer than this is forgotten.
        clock: seconds that only go up.

    Raises:
        VisoloError: if there is room for no sequence, or the idle time is no time.
    """

    def __init__(
        self, model: Model, most: int, idle_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if most < 1:
            raise VisoloError(f"a replica needs room for at least one sequence, not {most}")
        if not idle_s > 0:
            raise VisoloError(f"a sequence needs some seconds before it is idle, not {idle_s:g}")
        self._model, self._most, self._idle_s, self._clock = model, most, idle_s, clock
        self._streams = Streams(model, [None] * most)
        self._open: dict[SequenceId, _Open] = {}
        self._free_rows = list(range(most))  # a heap: neighbouring rows are computed together
        threads = min(most, os.cpu_count() or 1)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="visolo-jpeg")

    @property
    def open(self) -> tuple[SequenceId, ...]:
        """The sequences that have begun and not ended."""
        return tuple(self._open)

    def step(self, requests: Sequence[Request]) -> list[Answer | VisoloError]:
        """Answer one request of each of some sequences.

        Args:
            requests: of different sequences.

        Returns:
            for each request its answer, or why it was refused. A refused frame counts as not sent:
            its sequence goes on with the next one. A sequence whose start is refused for its
            settings or for lack of room has not begun. If the engines fail, the sequences that had
            a frame end.

        Raises:
            ValueError: if a sequence has two requests.
        """
        if len({request.sequence for request in requests}) < len(requests):
            raise ValueError("a sequence has two requests in one step")
        self._forget_idle()
        answers: dict[int, Answer | VisoloError] = {}
        turns: dict[int, _Open] = {}
        for place, request in enumerate(requests):
            if request.is_question:
                self._close(request.sequence)
                answers[place] = Answer("", self._nothing())
                continue
            try:
                opened = self._begun(request) if request.start else self._known(request.sequence)
                check_request(request)
                turns[place] = opened
            except VisoloError as error:
                answers[place] = error
        answers |= self._stepped({place: requests[place] for place in turns}, turns)
        for place, request in enumerate(requests):
            if place in turns:
                turns[place].last_used_s = self._clock()
            if request.end:
                self._close(request.sequence)
        return [answers[place] for place in range(len(requests))]

    def close(self) -> None:
        """End all sequences and the threads."""
        for sequence in self.open:
            self._close(sequence)
        self._streams.close()
        self._pool.shutdown()

    def __enter__(self) -> Sequences:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------ from first to last request

    def _begun(self, request: Request) -> _Open:
        """A new session for a sequence, in place of one that it may have."""
        sequence = request.sequence
        self._close(sequence)
        settings = parse_settings(request.settings, self._model)
        if not self._free_rows:
            raise VisoloError(
                f"{shown(sequence)} is one too many: this replica has room for {self._most}; end "
                "one, ask another replica, or write the repository with more --streams"
            )
        self._streams.restart(self._free_rows[0], settings.mask_size, settings.model)
        row = heapq.heappop(self._free_rows)
        opened = _Open(sequence, row, secrets.token_hex(8), self._clock())
        self._open[sequence] = opened
        return opened

    def _known(self, sequence: SequenceId) -> _Open:
        opened = self._open.get(sequence)
        if opened is None:
            raise VisoloError(
                f"{shown(sequence)} has no session here: it has not begun, has ended or was idle "
                f"for {self._idle_s:g} seconds; send its next frame with the start, and its tracks "
                "begin anew"
            )
        return opened

    def _close(self, sequence: SequenceId) -> None:
        opened = self._open.pop(sequence, None)
        if opened is not None:
            heapq.heappush(self._free_rows, opened.row)

    def _forget_idle(self) -> None:
        now = self._clock()
        for each in tuple(self._open.values()):
            if now - each.last_used_s > self._idle_s:
                self._close(each.sequence)

    # ------------------------------------------------------------------------------ the frames

    def _stepped(
        self, requests: Mapping[int, Request], turns: Mapping[int, _Open]
    ) -> dict[int, Answer | VisoloError]:
        """The answers to requests that may be answered, by place."""
        results: dict[int, Instances | VisoloError] = {}
        frames: dict[int, Picture] = {}
        pictures = self._pool.map(_picture, requests.values())
        for place, picture in zip(requests, pictures, strict=True):
            if isinstance(picture, VisoloError):
                results[place] = picture
            elif picture is None:
                results[place] = self._nothing()
            else:
                frames[place] = picture
        stepped = self._step_rows({turns[place].row: frames[place] for place in frames}, turns)
        results |= {place: stepped[turns[place].row] for place in frames}
        return {
            place: each if isinstance(each, VisoloError) else Answer(turns[place].session, each)
            for place, each in results.items()
        }

    def _step_rows(
        self, frames: Mapping[int, Picture], turns: Mapping[int, _Open]
    ) -> dict[int, Instances | VisoloError]:
        """The instances of a frame of each of some rows, or why it was refused."""
        done = False
        try:
            results = self._streams.step_each(frames)
            done = True
        except VisoloError as error:
            results = dict.fromkeys(frames, error)
        finally:
            if not done:  # some of them may have been computed, and cannot be computed again
                for each in turns.values():
                    if each.row in frames:
                        self._close(each.sequence)
        return results

    def _nothing(self) -> Instances:
        """The instances of a request that has no frame."""
        number, share = np.empty(0, np.int64), np.empty(0, np.float32)
        masks = np.empty((0, 0, 0), np.uint8)
        return Instances(
            -1, (0, 0), self._model.labels, number, number, share, number, share, number, masks
        )


def _picture(request: Request) -> Picture | VisoloError | None:
    """The frame of a request, or why it cannot be read; None if there is none."""
    if request.jpeg is None:
        return request.image
    try:
        return read_jpeg(request.jpeg, MOST_PIXELS)
    except VisoloError as error:
        return error
