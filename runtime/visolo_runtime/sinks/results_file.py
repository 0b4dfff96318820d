"""Tracks in the YouTube-VIS submission format."""

from __future__ import annotations

import json
from pathlib import Path

from visolo_core.categories import LabelSet
from visolo_core.results import Track, VideoResult, ytvis_results
from visolo_runtime.sinks.sink import FileSink
from visolo_runtime.sources.clip import Clip


class ResultsFile(FileSink):
    """``results.json`` in the YouTube-VIS submission format.

    Args:
        path: of the file.
        labels: of the model.
        whole: leave out clips that could not be run to their end, as an evaluator must have it.
    """

    def __init__(self, path: Path, labels: LabelSet, whole: bool = False) -> None:
        super().__init__(path)
        self._labels, self._whole = labels, whole
        self._results: list[VideoResult] = []
        self._failed: set[int] = set()

    def failed(self, clip: Clip, reason: str) -> None:
        self._failed.add(clip.video_id)

    def end(self, clip: Clip, tracks: list[Track]) -> None:
        if not (self._whole and clip.video_id in self._failed):
            self._results += ytvis_results(clip.video_id, tracks, self._labels)

    def commit(self) -> None:
        self._temporary.write_text(json.dumps(self._results), encoding="utf-8")
        super().commit()
