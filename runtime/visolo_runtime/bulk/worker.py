"""What a worker does: it opens the engines once, and runs the videos that it is given."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from visolo_core.errors import VisoloError
from visolo_runtime.bulk.folder import BulkFolder, count_up
from visolo_runtime.bulk.keys import identify
from visolo_runtime.bulk.manifest import Row
from visolo_runtime.bulk.outputs import VideoOutputs
from visolo_runtime.bulk.plan import BulkVideo, Job
from visolo_runtime.bulk.player import Player, open_clip
from visolo_runtime.bulk.segments import StepwiseStreams
from visolo_runtime.session.loading import Model, load
from visolo_runtime.session.streams import Streams
from visolo_runtime.sources.clip import Clip

REFUSED, UNWRITTEN = "refused", "unwritten"
"""What an answer of a worker may be beside a row: no video can be run here; no output can be
written."""


class BulkWorker:
    """Runs batches of videos. Ray makes it an actor.

    Args:
        job: as text.
        attempt: how often videos that failed have been tried, from 1.
    """

    def __init__(self, job: str, attempt: int) -> None:
        self._job, self._attempt = Job.from_text(job), attempt
        self._folder = BulkFolder(self._job.root)
        self._streams: Streams | None = None
        self._refusal = ""
        try:
            self._model = self._open()
        except VisoloError as error:
            self._refusal = str(error)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """Run a batch of videos side by side.

        Args:
            batch: column ``video`` of :meth:`Video.as_text`.

        Returns:
            column ``answer`` of json: a row of the manifest, or an object with ``REFUSED`` or
            ``UNWRITTEN`` and a sentence.
        """
        if self._refusal:
            return {"answer": [json.dumps({REFUSED: self._refusal})]}
        return {"answer": self._run([BulkVideo.from_text(text) for text in batch["video"]])}

    def _open(self) -> Model:
        job, settings = self._job, self._job.settings
        self._folder.check_here(job.run)
        here = f"the worker on {socket.gethostname()}: "
        try:
            if identify(job.model).hash != job.model_hash:
                raise VisoloError(f"its model '{job.model}' is another one: copy it there again")
            model = load(
                job.model,
                settings.backend,
                lambda _: settings.inference,
                job.threads,
                settings.precision,
                job.device,
            )
            return model.only(settings.classes) if settings.classes else model
        except VisoloError as error:
            raise VisoloError(here + str(error)) from error

    def _run(self, videos: Sequence[BulkVideo]) -> list[str]:
        answers: list[str] = []
        waiting: list[BulkVideo] = []
        alone: list[BulkVideo] = []
        for video in videos:
            row = self._folder.row_of(video.key)
            if row and row.run == self._job.run and (
                row.status == "done" or row.attempt >= self._attempt
            ):  # fmt: skip
                answers.append(row.as_text())  # before the worker that ran it was lost
            else:
                # What was begun before has ended its worker: it must not end others with it.
                (alone if self._folder.attempts(video.key).exists() else waiting).append(video)
        for batch in [*([waiting] if waiting else []), *([each] for each in alone)]:
            answers += self._side_by_side(batch)
        return answers

    def _side_by_side(self, videos: list[BulkVideo]) -> list[str]:
        outputs = {video.key: self._outputs(video) for video in videos}
        begun: list[BulkVideo] = []
        for video in videos:
            try:
                deaths = count_up(self._folder.attempts(video.key)) - 1
            except OSError as error:
                outputs[video.key].give_up(error)
                continue
            if deaths > self._job.retries:
                outputs[video.key].set_aside(
                    f"its worker ended {deaths} times while it ran: it may need more memory than "
                    "there is, or crash a library"
                )
            else:
                begun.append(video)
        if begun:
            self._play(begun, outputs)
        for key in outputs:
            with contextlib.suppress(OSError):
                self._folder.attempts(key).unlink()
        return [_answer(each) for each in outputs.values()]

    def _outputs(self, video: BulkVideo) -> VideoOutputs:
        words = self._model.engines.description
        return VideoOutputs(
            self._job, video, self._model.labels, self._folder, self._attempt, words
        )

    def _play(self, videos: list[BulkVideo], outputs: dict[str, VideoOutputs]) -> None:
        with ExitStack() as stack:
            clips: list[tuple[Clip, VideoOutputs]] = []
            for video in videos:
                mine = outputs[video.key]
                try:
                    clips.append((open_clip(video, self._job.settings.deinterlace, stack), mine))
                except VisoloError as error:
                    mine.set_aside(str(error))
            if not clips:
                return
            try:
                Player(self._job, self._open_streams(), self._folder, clips).play()
            except Exception as error:  # of a library: the others of the run must not end with it
                self._streams = None
                for _, mine in clips:
                    if not mine.is_over:
                        mine.set_aside(f"{type(error).__name__}: {error}")

    def _open_streams(self) -> Streams:
        if self._streams is None:
            kind = Streams if self._job.segment_s is None else StepwiseStreams
            record = self._job.settings.results == "ytvis"
            self._streams = kind(self._model, [None] * self._job.per_worker, record)
        return self._streams


def _answer(outputs: VideoOutputs) -> str:
    if outputs.row is not None:
        return outputs.row.as_text()
    return json.dumps({UNWRITTEN: outputs.unwritten or "a video has no outcome"})


def row_in(answer: str) -> Row | tuple[str, str]:
    """An answer of a worker: a row, or ``REFUSED`` or ``UNWRITTEN`` and a sentence."""
    values = json.loads(answer)
    for kind in (REFUSED, UNWRITTEN):
        if kind in values:
            return kind, str(values[kind])
    return Row.from_text(answer)
