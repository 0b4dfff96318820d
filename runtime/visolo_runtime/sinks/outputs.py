"""The sinks that a run's options ask for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal

from visolo_core.categories import LabelSet
from visolo_runtime.sinks.annotated_video import AnnotatedVideo
from visolo_runtime.sinks.clip_files import ClipFiles, PartFiles, clip_file
from visolo_runtime.sinks.cvat_file import CvatFile
from visolo_runtime.sinks.fonts import missing_fonts
from visolo_runtime.sinks.frame_lines import STANDARD_OUTPUT, frame_lines
from visolo_runtime.sinks.own_files import Output, check_own_files
from visolo_runtime.sinks.results_file import ResultsFile
from visolo_runtime.sinks.sink import Sink
from visolo_runtime.sources.clip import Clip

ResultsFormat = Literal["ytvis", "cvat"]


@dataclass(frozen=True)
class Outputs:
    """What a run writes."""

    results: Path | None = None
    """The tracks; with ``cvat`` and several clips a folder."""
    frames: Path | None = None
    """A line for each frame; ``-`` means standard output."""
    video: Path | None = None
    """The annotated video; with several clips a folder."""
    results_format: ResultsFormat = "ytvis"

    def notes(self, labels: LabelSet) -> list[str]:
        """What a user should know about the outputs before the run, one sentence each."""
        missing = missing_fonts(labels.names) if self.video else None
        return [missing] if missing else []

    def check(self, clips: list[Clip], also_read: Iterable[Path] = ()) -> None:
        """Refuse outputs that would overwrite what is read, or each other.

        Args:
            clips: from ``open_sources``.
            also_read: other files that the run reads.

        Raises:
            VisoloError: if there are any.
        """
        files: list[Output] = []
        folders: list[Output] = []
        if self.frames:
            is_stdout = str(self.frames) == STANDARD_OUTPUT
            files.append(("--frames", Path("/dev/stdout") if is_stdout else self.frames))
        cvat = self.results_format == "cvat"
        for option, path, suffix in (
            ("--results", self.results, ".xml" if cvat else None),
            ("--video", self.video, ".mp4"),
        ):
            if path and suffix and len(clips) > 1:
                folders.append((option, path))
                files += [(option, clip_file(path, clip, suffix)) for clip in clips]
            elif path:
                files.append((option, path))
        read = (file for clip in clips for file in clip.files)
        check_own_files(files, chain(read, also_read), folders)


def open_sinks(
    clips: list[Clip], labels: LabelSet, outputs: Outputs, also_read: Iterable[Path] = ()
) -> list[Sink]:
    """Open the sinks of a run.

    Args:
        clips: from ``open_sources``.
        labels: of the model.
        outputs: what to write.
        also_read: files that the run reads beside those of the clips.

    Raises:
        VisoloError: if one cannot be written, or would overwrite what is read or another output; no
            file is left behind then.
    """
    outputs.check(clips, also_read)
    sinks: list[Sink] = []
    results, frames, video = outputs.results, outputs.frames, outputs.video
    try:
        if results and outputs.results_format == "ytvis":
            sinks.append(ResultsFile(results, labels))
        elif results and len(clips) > 1:
            sinks.append(ClipFiles(results, ".xml", lambda p: CvatFile(p, labels), "--results"))
        elif results:
            sinks.append(PartFiles(results, clips[0].video_id, lambda p: CvatFile(p, labels)))
        if frames:
            sinks.append(frame_lines(frames))
        if video and len(clips) > 1:
            sinks.append(ClipFiles(video, ".mp4", AnnotatedVideo, "--video"))
        elif video:
            sinks.append(PartFiles(video, clips[0].video_id, AnnotatedVideo))
    except BaseException:  # Ctrl-C too, while a FIFO waits for its reader
        for sink in sinks:
            sink.discard()
        raise
    return sinks
