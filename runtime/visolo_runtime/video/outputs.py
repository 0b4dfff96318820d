"""The sinks that a run's options ask for."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from visolo_core.categories import LabelSet
from visolo_core.errors import VisoloError
from visolo_runtime.video.cvat_sink import CvatFile
from visolo_runtime.video.sinks import (
    AnnotatedVideo,
    ClipFiles,
    FrameLines,
    FrameLinesFile,
    ResultsFile,
    Sink,
)
from visolo_runtime.video.sources import Clip

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


def open_sinks(clips: list[Clip], labels: LabelSet, outputs: Outputs) -> list[Sink]:
    """Open the sinks of a run.

    Raises:
        VisoloError: if one cannot be written; no file is left behind then.
    """
    sinks: list[Sink] = []
    results, frames, video = outputs.results, outputs.frames, outputs.video
    try:
        if results and outputs.results_format == "ytvis":
            sinks.append(ResultsFile(results, labels))
        elif results and len(clips) > 1:
            sinks.append(ClipFiles(results, ".xml", lambda p: CvatFile(p, labels), "--results"))
        elif results:
            sinks.append(CvatFile(results, labels))
        if frames and str(frames) == "-":
            sinks.append(FrameLines(sys.stdout))
        elif frames:
            sinks.append(FrameLinesFile(frames))
        if video and len(clips) > 1:
            sinks.append(ClipFiles(video, ".mp4", AnnotatedVideo, "--video"))
        elif video:
            sinks.append(AnnotatedVideo(video))
    except VisoloError:
        for sink in sinks:
            sink.discard()
        raise
    return sinks
