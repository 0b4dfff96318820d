"""What a worker does: it opens the engines once, and runs the videos that it is given."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from visolo_core.errors import VisoloError
from visolo_core.instances import Instances
from visolo_core.results import Track
from visolo_runtime.bulk.folder import BulkFolder, count_up
from visolo_runtime.bulk.keys import identify
from visolo_runtime.bulk.manifest import Row
from visolo_runtime.bulk.outputs import VideoOutputs
from visolo_runtime.bulk.plan import BulkVideo, Job
from visolo_runtime.bulk.segments import Kept, Segments, StepwiseStreams, from_frame
from visolo_runtime.bulk.stores import downloaded
from visolo_runtime.run_lineup import Lineup, Listeners
from visolo_runtime.run_loop import RunLoop
from visolo_runtime.run_options import RunOptions
from visolo_runtime.run_summary import RunSummary
from visolo_runtime.session.loading import Model, load
from visolo_runtime.session.streams import Streams
from visolo_runtime.sinks.delivery import Delivery
from visolo_runtime.sinks.sink import Sink
from visolo_runtime.sources.clip import Clip, Skipped, SourceFrame
from visolo_runtime.sources.pictures import clip_of_pictures, frames_of_pictures
from visolo_runtime.sources.video_files import clip_of_file
from visolo_runtime.stop_flag import StopFlag

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
                    clips.append((_clip(video, self._job.settings.deinterlace, stack), mine))
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


class Player(Sink):
    """Runs some clips to their ends, and cuts long ones.

    Args:
        job: of the worker.
        streams: as many as run side by side.
        folder: where the state of long videos is kept.
        clips: each with what receives it.
    """

    def __init__(
        self,
        job: Job,
        streams: Streams,
        folder: BulkFolder,
        clips: Sequence[tuple[Clip, VideoOutputs]],
    ) -> None:
        self._job, self._streams = job, streams
        self._outputs = [outputs for _, outputs in clips]
        self._segments: list[Segments | None] = [None] * len(clips)
        self._kept: list[Kept | None] = [None] * len(clips)
        self._ids = [clip.video_id for clip, _ in clips]
        ready = [self._resumed(place, clip, folder) for place, (clip, _) in enumerate(clips)]
        # Numbered while they run: videos of two data sets may have the same id.
        self._clips = [replace(clip, video_id=place) for place, clip in enumerate(ready)]
        settings = job.settings
        options = RunOptions(
            settings.output_size,
            settings.max_frames,
            settings.results == "ytvis",
            len(streams.sessions),
        )
        self._summary = RunSummary()
        listeners = Listeners(Delivery([self], _ignore), _ignore, _ignore, _ignore)
        self._lineup = Lineup(streams, self._clips, options, StopFlag(), self._summary, listeners)
        self._listeners = listeners

    def play(self) -> None:
        """Run all clips; what becomes of each is in its outputs."""
        try:
            RunLoop(self._streams, self._lineup, self._summary, self._listeners).play()
        except VisoloError as error:  # of the engines, before there was a frame
            for outputs in self._outputs:
                if not outputs.is_over:
                    outputs.set_aside(str(error))
        finally:
            for outputs in self._outputs:
                outputs.discard()

    def _resumed(self, place: int, clip: Clip, folder: BulkFolder) -> Clip:
        if self._job.segment_s is None:
            return clip
        segments = Segments(folder.segments(self._outputs[place].video.key), self._job.segment_s)
        self._segments[place], self._kept[place] = segments, segments.find()
        kept = self._kept[place]
        return clip if kept is None else from_frame(clip, kept.position)

    # ------------------------------------------------------------------------------ as a sink

    def begin(self, clip: Clip) -> None:
        place = clip.video_id
        kept, segments = self._kept[place], self._segments[place]
        if kept is not None and segments is not None:
            stream = self._stream_of(clip)
            try:
                segments.resume(kept, self._streams.sessions[stream], self._outputs[place])
            except VisoloError as error:
                segments.forget()
                self._outputs[place].set_aside(f"{error}; run the command again")
                return
            playing = self._lineup.playing[stream]
            playing.counts.frames, playing.size = kept.counts.frames, kept.counts.size
        self._outputs[place].begin(self._own(clip))

    def frame(self, clip: Clip, frame: SourceFrame, instances: Instances) -> None:
        outputs = self._outputs[clip.video_id]
        if outputs.is_over:
            return
        outputs.frame(self._own(clip), frame, instances)
        segments = self._segments[clip.video_id]
        if segments is not None and not outputs.is_over:
            session = self._streams.sessions[self._stream_of(clip)]
            try:
                segments.keep(frame.time_s, session, outputs)
            except (OSError, VisoloError) as error:
                outputs.give_up(error)

    def skipped(self, clip: Clip, position: int, skipped: Skipped) -> None:
        self._outputs[clip.video_id].skipped(self._own(clip), position, skipped)

    def failed(self, clip: Clip, reason: str) -> None:
        self._outputs[clip.video_id].failed(self._own(clip), reason)

    def end(self, clip: Clip, tracks: list[Track]) -> None:
        outputs, segments = self._outputs[clip.video_id], self._segments[clip.video_id]
        if not outputs.is_over:
            outputs.end(self._own(clip), tracks)
        if segments is not None and outputs.row is not None:
            segments.forget()

    def _own(self, clip: Clip) -> Clip:
        return replace(clip, video_id=self._ids[clip.video_id])

    def _stream_of(self, clip: Clip) -> int:
        playing = self._lineup.playing.items()
        return next(stream for stream, each in playing if each.clip is clip)


def _clip(video: BulkVideo, deinterlace: bool, stack: ExitStack) -> Clip:
    if video.kind == "pictures":
        clip = clip_of_pictures([Path(file) for file in video.files])
    elif video.kind == "data set":
        files = [Path(file) for file in video.files]
        clip = Clip(
            video.video_id,
            video.name,
            lambda: frames_of_pictures(files, video.size),
            length=len(files),
            size=video.size,
            frame_names=video.frame_names,
        )
    elif video.kind == "address":
        path = stack.enter_context(downloaded(video.files[0]))
        try:
            clip = clip_of_file(path, deinterlace)
        except VisoloError as error:
            raise VisoloError(str(error).replace(str(path), video.shown)) from error
    else:
        clip = clip_of_file(Path(video.files[0]), deinterlace)
    return replace(clip, video_id=video.video_id, name=video.name)


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


def _ignore(*_: object) -> None:
    """Nobody listens on a worker."""
