"""One stream of a server: what is known of it, and what viewers may set."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from visolo_runtime.serving.pace import Pace
from visolo_runtime.serving.tracked import TrackedFrame
from visolo_runtime.sources.clip import Clip
from visolo_runtime.sources.feed import Feed

State = Literal["waiting", "playing", "paused", "ended", "failed"]
_LATENCIES = 512  # the newest ones
NOTICES = 20
"""The newest ones."""


@dataclass(frozen=True)
class StreamSettings:
    """What viewers may set of a stream, for all of them."""

    paused: bool = False
    least_score: float = 0.0
    """Instances with lower scores are not passed on."""
    classes: tuple[int, ...] | None = None
    """Class indices that are passed on; None passes all."""


@dataclass
class HubStream:
    """One stream of the hub."""

    number: int
    """in the server's life, from 1"""
    row: int
    clip: Clip
    feed: Feed
    pace: Pace | None
    sends_picture: bool
    source: str = ""
    """as a person wrote it, without passwords; empty for a visitor's own pictures"""
    name: str = ""
    """by which it is found, if it was given one"""
    saved: bytes | None = None
    """state of the session that tracked it before, if its tracks are to go on"""
    lease_until: float | None = None
    """when it ends unless it is asked for again, by ``time.monotonic``; None never"""
    settings: StreamSettings = field(default_factory=StreamSettings)
    state: State = "waiting"
    reason: str = ""
    """why it ended or failed"""
    frames: int = 0
    dropped: int = 0
    skipped: int = 0
    size: tuple[int, int] | None = None
    """height and width of its frames, once one has arrived"""
    latest: TrackedFrame | None = None
    latency_ms: deque[float] = field(default_factory=lambda: deque(maxlen=_LATENCIES))
    """from a frame's arrival to its instances"""
    done_at: deque[float] = field(default_factory=lambda: deque(maxlen=_LATENCIES))
    notices: deque[str] = field(default_factory=lambda: deque(maxlen=NOTICES))
    listeners: list[Callable[[HubStream, TrackedFrame | None], None]] = field(default_factory=list)
    """Called by the engines' thread with each frame, and with None when the stream is over; they
    must return at once."""

    def lease(self, seconds: float | None) -> None:
        """End it after so long unless it is asked for again."""
        self.lease_until = None if seconds is None else time.monotonic() + seconds

    @property
    def key(self) -> str:
        """Under which its state is kept; empty if it is not."""
        return key_of(self.clip, self.name, self.source)

    @property
    def over(self) -> bool:
        return self.state in ("ended", "failed")

    @property
    def fps(self) -> float:
        """Frames a second over the last seconds."""
        now = time.perf_counter()
        recent = [each for each in tuple(self.done_at) if now - each < 5]
        return (len(recent) - 1) / (now - recent[0]) if len(recent) > 1 else 0.0

    def describe(self) -> dict[str, Any]:
        """Ready for json."""
        latencies = np.array(self.latency_ms or [0.0])
        return {
            "stream": self.number,
            "name": self.clip.name,
            "live": self.clip.live,
            "visitor": not self.sends_picture,
            "state": self.state,
            "reason": self.reason,
            "frames": self.frames,
            "dropped": self.dropped,
            "skipped": self.skipped,
            "size": self.size,
            "fps": round(self.fps, 2),
            "latency_ms": {
                "p50": round(float(np.percentile(latencies, 50)), 2),
                "p99": round(float(np.percentile(latencies, 99)), 2),
            },
            "notices": list(self.notices),
            "settings": {
                "paused": self.settings.paused,
                "least_score": self.settings.least_score,
                "classes": self.settings.classes,
            },
        }


def key_of(clip: Clip, name: str, source: str) -> str:
    """Under which the state of a stream is kept: its name, or its source. Empty for recordings,
    which begin anew, and for a visitor's own pictures."""
    return (name or source) if clip.live else ""
