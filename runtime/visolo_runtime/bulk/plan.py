"""What a bulk run does, in a form that goes from process to process: the videos, and the settings
that all of them share."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from visolo_core.config import InferenceConfig

ResultsKind = Literal["ytvis", "none"]
VideoKind = Literal["file", "address", "pictures", "data set"]


@dataclass(frozen=True)
class BulkSettings:
    """What decides the contents of the outputs, beside the model and the videos."""

    inference: InferenceConfig
    """thresholds and limits"""
    backend: str = "auto"
    precision: str = ""
    classes: str = ""
    """names of the categories that are kept, separated by commas; empty keeps all"""
    output_size: tuple[int, int] | None = None
    """height and width of the masks; None means the video's"""
    max_frames: int | None = None
    deinterlace: bool = False
    results: ResultsKind = "ytvis"
    frames: bool = False
    """whether a line for each frame is written"""
    video: bool = False
    """whether an annotated video is written"""

    def as_text(self) -> str:
        """The same text for the same settings."""
        return json.dumps(asdict(self), sort_keys=True)


@dataclass(frozen=True)
class BulkVideo:
    """One video: what a worker is given at a time."""

    kind: VideoKind
    shown: str
    """the input as users see it, without passwords"""
    name: str
    """of the clip in the outputs"""
    files: tuple[str, ...]
    """paths, or one address"""
    video_id: int = 1
    size: tuple[int, int] | None = None
    """height and width of the frames, if a data set states them"""
    frame_names: tuple[str, ...] = ()
    content: str = ""
    """hash of what is read"""
    key: str = ""
    """hash of the content, the name, the model and the settings"""

    @property
    def stem(self) -> str:
        """Of the names of its outputs; two videos never have the same."""
        plain = "".join(each if each.isalnum() or each in "._-" else "_" for each in self.name)
        cut = plain.encode()[:_LONGEST_STEM].decode(errors="ignore").lstrip(".") or "video"
        return f"{cut}-{self.key}"

    def as_text(self) -> str:
        """One line of json."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> BulkVideo:
        """What :meth:`as_text` wrote."""
        values = json.loads(text)
        return cls(**{name: _tupled(value) for name, value in values.items()})


@dataclass(frozen=True)
class Job:
    """What the workers of a bulk run are told."""

    run: str
    """another one each time that the command begins"""
    model: str
    """a path, or an address on the hub"""
    model_hash: str
    folder: str
    """absolute path of the output folder"""
    settings: BulkSettings
    device: str = ""
    threads: int = 0
    per_worker: int = 1
    """videos that a worker runs side by side"""
    workers: int = 0
    """0 means what the cluster has place for"""
    retries: int = 1
    segment_s: float | None = None
    """seconds of a video after which its state is kept"""
    address: str = ""
    """of a Ray cluster; empty starts one on this machine"""

    def as_text(self) -> str:
        """One line of json."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> Job:
        """What :meth:`as_text` wrote."""
        values = json.loads(text)
        settings = {name: _tupled(value) for name, value in values.pop("settings").items()}
        inference = InferenceConfig(**settings.pop("inference"))
        return cls(settings=BulkSettings(inference, **settings), **values)

    @property
    def root(self) -> Path:
        """The output folder."""
        return Path(self.folder)


_LONGEST_STEM = 120  # bytes, of the 255 that a name may have


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
