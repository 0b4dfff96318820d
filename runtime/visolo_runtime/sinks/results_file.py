"""Tracks in the YouTube-VIS submission format."""

from __future__ import annotations

import json
from pathlib import Path

from visolo_core.categories import LabelSet
from visolo_core.results import Track, VideoResult, ytvis_results
from visolo_runtime.sinks.sink import FileSink
from visolo_runtime.sources.clip import Clip


class ResultsFile(FileSink):
    """``results.json`` in the YouTube-VIS submission format."""

    def __init__(self, path: Path, labels: LabelSet) -> None:
        super().__init__(path)
        self._labels = labels
        self._results: list[VideoResult] = []

    def end(self, clip: Clip, tracks: list[Track]) -> None:
        self._results += ytvis_results(clip.video_id, tracks, self._labels)

    def commit(self) -> None:
        self._temporary.write_text(json.dumps(self._results), encoding="utf-8")
        super().commit()
