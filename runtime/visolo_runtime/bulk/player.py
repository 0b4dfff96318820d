"""Some videos of a worker, run side by side to their ends, and the long ones cut."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from visolo_core.errors import VisoloError
from visolo_core.instances import Instances
from visolo_core.results import Track
from visolo_runtime.bulk.folder import BulkFolder
from visolo_runtime.bulk.outputs import VideoOutputs
from visolo_runtime.bulk.plan import BulkVideo, Job
from visolo_runtime.bulk.segments import Kept, Segments, from_frame
from visolo_runtime.bulk.stores import downloaded
from visolo_runtime.run_lineup import Lineup, Listeners
from visolo_runtime.run_loop import RunLoop
from visolo_runtime.run_options import RunOptions
from visolo_runtime.run_summary import RunSummary
from visolo_runtime.session.streams import Streams
from visolo_runtime.sinks.delivery import Delivery
from visolo_runtime.sinks.sink import Sink
from visolo_runtime.sources.clip import Clip, Skipped, SourceFrame
from visolo_runtime.sources.pictures import clip_of_pictures, frames_of_pictures
from visolo_runtime.sources.video_files import clip_of_file
from visolo_runtime.stop_flag import StopFlag


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


def open_clip(video: BulkVideo, deinterlace: bool, stack: ExitStack) -> Clip:
    """The clip of a video.

    Args:
        video: of a plan.
        deinterlace: as for ``decode``.
        stack: holds the copy of one in a store.

    Raises:
        VisoloError: if it cannot be had, or is no video.
    """
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


def _ignore(*_: object) -> None:
    """Nobody listens on a worker."""
