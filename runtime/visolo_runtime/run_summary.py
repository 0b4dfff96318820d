"""What a run did: counts and times, of each clip and of all."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from visolo_runtime.session.stream import STAGES
from visolo_runtime.sinks.failures import Failure


@dataclass
class StreamCounts:
    """What a run did with one clip."""

    name: str
    frames: int = 0
    """frames that went through the network"""
    dropped: int = 0
    """frames of a live source that arrived too fast"""
    instances: int = 0
    tracks: int = 0
    latency_seconds: float = 0.0
    """from a frame's arrival to its instances, summed over the frames"""
    worst_latency_seconds: float = 0.0
    notices: int = 0
    """what the source reported while it ran, such as gaps"""
    gap_seconds: float = 0.0
    """without frames, as the notices say"""
    failed: str | None = None
    """why the clip ended before its end"""

    def count(self, instances: int, latency_seconds: float) -> None:
        """Count a frame.

        Args:
            instances: number of instances in it.
            latency_seconds: from its arrival to its instances.
        """
        self.frames += 1
        self.instances += instances
        self.latency_seconds += latency_seconds
        self.worst_latency_seconds = max(self.worst_latency_seconds, latency_seconds)

    def as_dict(self) -> dict[str, Any]:
        """Ready for json."""
        return {
            "name": self.name,
            "frames": self.frames,
            "dropped": self.dropped,
            "instances": self.instances,
            "tracks": self.tracks,
            "latency_ms": 1e3 * self.latency_seconds / max(1, self.frames),
            "worst_latency_ms": 1e3 * self.worst_latency_seconds,
            "notices": self.notices,
            "gap_s": self.gap_seconds,
            "failed": self.failed,
        }


@dataclass
class RunSummary:
    """What a run did."""

    clips: int = 0
    frames: int = 0
    """frames that went through the network"""
    skipped: int = 0
    """frames that could not be read"""
    instances: int = 0
    tracks: int = 0
    seconds: float = 0.0
    """from the first frame to the last, including reading and writing"""
    step_seconds: float = 0.0
    """inside the streams' steps"""
    interrupted: bool = False
    streams: list[StreamCounts] = field(default_factory=list)
    """one per clip"""
    failed: list[Failure] = field(default_factory=list)
    """clips that ended before their end"""
    failed_outputs: list[Failure] = field(default_factory=list)
    """outputs that could not be written, by the user's paths"""
    stage_seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    exit_status: int = 0
    """what a program should end with: 1 if something failed, 128 and its number after a signal,
    141 if the reader of standard output has left"""

    @property
    def fps(self) -> float:
        """Frames per second, including reading and writing."""
        return self.frames / self.seconds if self.seconds else 0.0

    def as_dict(self) -> dict[str, Any]:
        """All counts, ready for json."""
        counts = asdict(self) | {
            "fps": self.fps,
            "streams": [counts.as_dict() for counts in self.streams],
        }
        del counts["exit_status"]  # the program ends with it
        return counts
